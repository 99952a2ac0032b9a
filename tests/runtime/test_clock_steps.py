"""When the wall clock is set: waits last as long as they were meant to, and what falls due follows it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from functools import partial

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND, SystemClock
from ratus.core.records import COMPLETED, PENDING, CommitRecord
from ratus.core.selection import Where
from ratus.engine import Traits
from ratus.runtime.clock_watch import ClockWatch
from ratus.testing import ManualClock
from tests.api.clocked import Clocked
from tests.runtime.hall import Hall

pytestmark = pytest.mark.anyio

HOUR = 60 * MINUTE
STEPS = [-HOUR, HOUR, -10 * SECOND, 3 * SECOND]


class Shared(MemdbEngine):
    """On data that other servers may change unseen."""

    traits = Traits(name="shared", durable=False, shared=True)


@pytest.fixture(params=[MemdbEngine, Shared])
async def hall(request: pytest.FixtureRequest) -> Hall:
    return await Hall(request.param()).open()


async def step(hall: Hall, microseconds: int) -> None:
    """Set the wall clock, which is noticed a moment later."""
    hall.clock.step(microseconds)
    hall.long_polls.clock_stepped()
    await hall.settle()


# ---- waits -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", STEPS)
async def test_a_poll_waits_for_its_time_whatever_the_clock_says(hall: Hall, by: int) -> None:
    got = hall.wait(wait=5 * SECOND)
    await hall.settle()
    await hall.advance(SECOND)
    await step(hall, by)
    await hall.advance(4 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == []
    await hall.assert_empty()


@pytest.mark.parametrize("by", STEPS)
async def test_reading_a_task_waits_for_its_time_whatever_the_clock_says(hall: Hall, by: int) -> None:
    await hall.insert("1")
    got = hall.wait_settled("1", wait=5 * SECOND)
    await hall.settle()
    await hall.advance(SECOND)
    await step(hall, by)
    await hall.advance(4 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == PENDING
    await hall.assert_empty()


@pytest.mark.parametrize("by", STEPS)
async def test_what_other_servers_do_is_looked_for_at_the_same_pace(by: int) -> None:
    hall = await Hall(Shared()).open()
    await hall.insert("done", topic="other")
    got, settled = hall.wait(), hall.wait_settled("done")
    await hall.settle()
    await step(hall, by)
    hall.engine.listener = None  # as if another server did it
    await hall.insert("1")
    await hall.engine.commit([CommitRecord("done")], hall.clock.now())
    await hall.advance(SECOND)
    assert (got.result(), settled.result()) == (["1"], COMPLETED)
    await hall.assert_empty()


@pytest.mark.parametrize("by", STEPS)
async def test_an_engine_that_fails_is_asked_again_after_a_second(by: int) -> None:
    class Failing(MemdbEngine):
        fails = False

        async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
            if self.fails:
                raise RuntimeError("a defect")
            return await super().next_due(topic, now, where)

    engine = Failing()
    hall = await Hall(engine).open()
    engine.fails = True
    got = hall.wait()
    await hall.settle()
    hall.clock.step(by)  # and nothing notices it
    engine.fails = False
    engine.listener = None
    await hall.insert("1")
    await hall.advance(SECOND)
    assert got.result() == ["1"]
    await hall.assert_empty()


# ---- what falls due ----------------------------------------------------------------------------------


async def test_a_task_is_handed_out_as_soon_as_the_clock_is_set_past_its_time(hall: Hall) -> None:
    await hall.insert("1", later=HOUR)
    got = hall.wait(wait=MINUTE)
    await hall.settle()
    await step(hall, HOUR)
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_a_task_waits_longer_when_the_clock_is_set_back(hall: Hall) -> None:
    await hall.insert("1", later=3 * SECOND)
    got = hall.wait(wait=MINUTE)
    await hall.settle()
    await step(hall, -10 * SECOND)
    await hall.advance(13 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_a_claim_lapses_as_soon_as_the_clock_is_set_past_its_deadline(hall: Hall) -> None:
    await hall.insert("1")
    await hall.claim(timeout=HOUR)
    got = hall.wait(wait=MINUTE)
    await hall.settle()
    await step(hall, HOUR)
    assert got.result() == ["1"]


async def test_a_wait_ends_before_a_deadline_that_the_clock_was_set_past(hall: Hall) -> None:
    got = hall.wait(wait=MINUTE, deadline=hall.clock.now() + 30 * SECOND)
    await hall.settle()
    await step(hall, 29 * SECOND)
    assert not got.done()
    await step(hall, SECOND)
    assert got.result() == []
    await hall.insert("1")
    await hall.settle()
    assert await hall.state("1") == PENDING
    await hall.assert_empty()


async def test_no_claim_is_made_that_would_have_lapsed_already(hall: Hall) -> None:
    got = hall.wait(wait=MINUTE, deadline=hall.clock.now() + 30 * SECOND)
    await hall.settle()
    hall.clock.step(HOUR)  # and nothing has noticed it yet
    await hall.insert("1")
    await hall.settle()
    assert got.result() == []
    assert await hall.state("1") == PENDING
    await hall.assert_empty()


async def test_a_deadline_far_away_after_a_step_back_does_not_make_the_wait_longer(hall: Hall) -> None:
    got = hall.wait(wait=5 * SECOND, deadline=hall.clock.now() + 30 * SECOND)
    await hall.settle()
    await step(hall, -HOUR)
    await hall.advance(5 * SECOND)
    assert got.result() == []
    await hall.assert_empty()


async def test_very_many_topics_are_looked_at_again(hall: Hall) -> None:
    for number in range(200):
        await hall.insert(str(number), topic=str(number), later=HOUR)
    waits = [hall.wait(str(number), wait=MINUTE) for number in range(200)]
    await hall.settle()
    await step(hall, HOUR)
    await hall.settle()
    assert [wait.result() for wait in waits] == [[str(number)] for number in range(200)]
    await hall.assert_empty()


# ---- over HTTP ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", STEPS)
@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/topics/t/promises?wait=5s"), ("GET", "/topics/t/tasks/1?wait=5s")]
)
def test_a_request_waits_for_its_time_whatever_the_clock_says(method: str, path: str, by: int) -> None:
    with Clocked() as server:
        server.request("POST", "/topics/t/tasks/1", {"defer": "100h"})
        answer = server.begin(method, path)
        server.clock.advance(SECOND)
        server.clock.step(by)
        server.turn()
        server.clock.advance(4 * SECOND - 1)
        server.turn()
        assert not answer.done()
        server.clock.advance(1)
        server.turn()
        assert answer.result().status == (404 if method == "POST" else 200)


# ---- noticing it -------------------------------------------------------------------------------------


class Steps:
    """A watch, how often it called, and its clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.calls = 0
        self.watch = ClockWatch(self.clock, self._count)

    def _count(self) -> None:
        self.calls += 1


@pytest.fixture
async def steps() -> Steps:
    steps = Steps()
    steps.watch.start()
    return steps


@pytest.mark.parametrize(
    ("by", "text"),
    [
        (-HOUR, "set back by 1h0m0s; what is scheduled and what is claimed comes that much later"),
        (1_500_000, "set forward by 1.5s; what is scheduled and what is claimed comes that much sooner"),
    ],
)
async def test_a_step_is_logged_counted_and_passed_on_once(
    steps: Steps, by: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    steps.clock.advance(SECOND)
    steps.watch.look()
    steps.clock.advance(SECOND)
    steps.clock.step(by)
    for _ in range(3):
        steps.watch.look()
    assert (steps.watch.forward, steps.watch.back) == ((1, 0) if by > 0 else (0, 1))
    assert steps.calls == 1
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert caplog.records[0].getMessage() == f"the clock of this machine was {text}"
    steps.watch.stop()


async def test_a_clock_whose_pace_is_corrected_makes_no_step(steps: Steps) -> None:
    for _ in range(1000):
        steps.clock.advance(SECOND)
        steps.clock.step(500)
        steps.watch.look()
    assert (steps.watch.forward, steps.watch.back, steps.calls) == (0, 0, 0)
    steps.watch.stop()


async def test_a_machine_that_is_busy_between_two_readings_makes_no_step() -> None:
    class Busy(ManualClock):
        """Other processes run for a second between the readings of the two clocks, some of the time."""

        pauses = 0

        def now(self) -> int:
            now = super().now()
            if self.pauses:
                self.pauses -= 1
                self.advance(SECOND)
            return now

    clock = Busy()
    watch = ClockWatch(clock, lambda: None)
    watch.start()
    clock.pauses = 3
    watch.look()
    assert (watch.forward, watch.back) == (0, 0)
    watch.stop()
    watch.stop()


async def test_it_looks_by_itself(steps: Steps, monkeypatch: pytest.MonkeyPatch) -> None:
    called = asyncio.Event()
    monkeypatch.setattr("ratus.runtime.clock_watch.INTERVAL", 0.001)
    clock = ManualClock()
    watch = ClockWatch(clock, called.set)
    watch.start()
    clock.step(HOUR)
    await asyncio.wait_for(called.wait(), 30)
    watch.stop()
    steps.watch.stop()


async def test_the_clocks_of_the_machine() -> None:
    clock = SystemClock()
    assert clock.monotonic() <= clock.monotonic()
    rung = asyncio.Event()
    for call_at, read in ((clock.call_at, clock.now), (clock.call_at_monotonic, clock.monotonic)):
        rung.clear()
        ring: Callable[[], None] = partial(rung.set)
        call_at(read() + 1000, ring)
        await asyncio.wait_for(rung.wait(), 30)
