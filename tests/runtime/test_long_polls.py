"""Waiting requests: served in order of arrival, at the very moment, each task to one of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import ContextVar

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND, SystemClock
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Traits
from ratus.testing import ManualClock, ManualTimer
from tests.runtime.hall import Hall, Peer

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hall() -> Hall:
    return await Hall(MemdbEngine(random=lambda: 0.5)).open()


# ---- getting a task ----------------------------------------------------------------------------------


async def test_a_task_that_comes_is_handed_out_at_once(hall: Hall) -> None:
    got = hall.wait()
    await hall.settle()
    assert not got.done()
    await hall.insert("1")
    await hall.settle()
    assert got.result() == ["1"]
    assert await hall.state("1") == ACTIVE
    await hall.assert_empty()


async def test_claims_for_requests_that_wait_run_in_the_context_of_none() -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: list[str] = []

    class Recording(MemdbEngine):
        async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
            seen.append(trace.get())
            return await super().claim(selection, now)

    hall = await Hall(Recording()).open()
    trace.set("the request that waits")
    got = hall.wait()
    await hall.settle()
    trace.set("the request that inserts")
    await hall.insert("1")
    await hall.settle()
    assert got.result() == ["1"]
    assert set(seen) == {"none"}


async def test_timers_call_back_in_an_empty_context() -> None:
    trace: ContextVar[str] = ContextVar("trace", default="none")
    seen: asyncio.Queue[str] = asyncio.Queue()
    clock = SystemClock()
    trace.set("a request")
    clock.call_at(clock.now(), lambda: seen.put_nowait(trace.get()))
    clock.call_at_monotonic(clock.monotonic(), lambda: seen.put_nowait(trace.get()))
    assert [await seen.get(), await seen.get()] == ["none", "none"]


async def test_a_task_that_is_there_is_handed_out_at_once(hall: Hall) -> None:
    await hall.insert("1")
    assert await hall.wait() == ["1"]
    await hall.assert_empty()


async def test_another_topics_task_wakes_nobody(hall: Hall) -> None:
    got = hall.wait("a")
    await hall.insert("1", topic="b")
    await hall.settle()
    assert not got.done()
    assert await hall.state("1") == PENDING
    await hall.advance(10 * SECOND)
    assert got.result() == []
    await hall.assert_empty()


async def test_in_order_of_arrival(hall: Hall) -> None:
    waits = [hall.wait() for _ in range(5)]
    await hall.settle()
    for number in range(3):
        await hall.insert(str(number))
        await hall.settle()
        assert [wait.done() for wait in waits] == [place <= number for place in range(5)]
    await hall.insert("3", "4")
    await hall.settle()
    assert [wait.result() for wait in waits] == [["0"], ["1"], ["2"], ["3"], ["4"]]
    await hall.assert_empty()


async def test_a_batch_reaches_as_many_as_it_can(hall: Hall) -> None:
    waits = [hall.wait(), hall.wait(limit=2), hall.wait(limit=5), hall.wait()]
    await hall.settle()
    await hall.insert("1", "2", "3", "4")
    await hall.settle()
    assert [wait.result() for wait in waits[:3]] == [["1"], ["2", "3"], ["4"]]
    assert not waits[3].done()


async def test_a_thousand_waiters_get_one_task_each_in_order_of_arrival(hall: Hall) -> None:
    waits = [hall.wait() for _ in range(1000)]
    await hall.settle()
    assert len(hall.long_polls) == 1000
    for number in range(1000):
        await hall.insert(str(number))
        await asyncio.sleep(0)
    await hall.settle()
    assert [wait.result() for wait in waits] == [[str(number)] for number in range(1000)]
    await hall.assert_empty()


async def test_the_room_knows_who_waits(hall: Hall) -> None:
    assert hall.long_polls.is_empty(Selection(("a", "b")))
    await hall.insert("1", topic="c")
    first, second = hall.wait("a", "b"), hall.wait_settled("1")
    await hall.settle()
    assert len(hall.long_polls) == 2
    assert not hall.long_polls.is_empty(Selection(("b", "x")))
    assert hall.long_polls.is_empty(Selection(("x", "t")))
    await hall.engine.delete_task("1")
    await hall.insert("2", topic="b")
    assert (await first, await second) == (["2"], None)
    await hall.assert_empty()


async def test_the_claim_is_what_was_wanted(hall: Hall) -> None:
    relative = hall.wait(consumer="me", timeout=30 * SECOND)
    absolute = hall.wait(deadline=hall.clock.now() + MINUTE)
    await hall.advance(5 * SECOND)
    await hall.insert("1", "2")
    assert await relative + await absolute == ["1", "2"]
    one, two = await hall.engine.get("1"), await hall.engine.get("2")
    assert one is not None
    assert two is not None
    now = hall.clock.now()
    assert (one.consumer, one.consumed, one.deadline) == ("me", now, now + 30 * SECOND)
    assert two.deadline == now - 5 * SECOND + MINUTE


# ---- at the very moment ------------------------------------------------------------------------------


async def test_a_task_scheduled_for_later_wakes_at_that_time(hall: Hall) -> None:
    await hall.insert("1", later=3 * SECOND)
    got = hall.wait()
    await hall.settle()
    await hall.advance(3 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_what_comes_later_but_is_due_sooner(hall: Hall) -> None:
    got = hall.wait()
    await hall.insert("late", later=5 * SECOND, priority=9)
    await hall.settle()
    await hall.insert("soon", later=2 * SECOND)
    await hall.settle()
    await hall.advance(2 * SECOND)
    assert got.result() == ["soon"]
    again = hall.wait()
    await hall.settle()
    await hall.advance(3 * SECOND)
    assert again.result() == ["late"]
    await hall.assert_empty()


async def test_the_end_of_anothers_claim_wakes(hall: Hall) -> None:
    await hall.insert("1")
    await hall.claim(timeout=3 * SECOND)
    got = hall.wait()
    await hall.settle()
    await hall.advance(3 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ["1"]


async def test_a_claim_made_while_somebody_waits_wakes_at_its_end(hall: Hall) -> None:
    await hall.insert("1", later=MINUTE)
    got = hall.wait()
    await hall.settle()
    now = hall.clock.now()
    await hall.engine.claim_task("1", Selection((), now + 3 * SECOND), now, force=False)
    await hall.engine.upsert([TaskRecord("1", "t", now, now, state=ACTIVE, deadline=now + 2 * SECOND)], now)
    await hall.settle()
    await hall.advance(2 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ["1"]


async def test_a_claim_that_is_made_shorter_wakes_at_its_new_end(hall: Hall) -> None:
    await hall.insert("1")
    claimed = await hall.claim(timeout=MINUTE)
    got = hall.wait()
    await hall.settle()
    now = hall.clock.now()
    await hall.engine.extend("1", claimed.nonce, now + 2 * SECOND, now)
    await hall.settle()
    await hall.advance(2 * SECOND)
    assert got.result() == ["1"]


async def test_a_claim_that_is_made_longer_is_waited_for(hall: Hall) -> None:
    await hall.insert("1")
    claimed = await hall.claim(timeout=2 * SECOND)
    got = hall.wait()
    await hall.settle()
    now = hall.clock.now()
    await hall.engine.extend("1", claimed.nonce, now + 5 * SECOND, now)
    await hall.advance(2 * SECOND)
    assert not got.done()
    await hall.advance(3 * SECOND)
    assert got.result() == ["1"]


async def test_a_failure_wakes_when_the_backoff_is_over(hall: Hall) -> None:
    await hall.insert("1", retry=RetryPolicy(delay=4 * SECOND))
    claimed = await hall.claim()
    got = hall.wait()
    await hall.settle()
    await hall.engine.commit([CommitRecord("1", claimed.nonce, error="boom")], hall.clock.now())
    await hall.settle()
    await hall.advance(4 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ["1"]


async def test_a_released_task_wakes_at_once(hall: Hall) -> None:
    await hall.insert("1")
    await hall.claim()
    got = hall.wait()
    await hall.settle()
    await hall.engine.release("1", hall.clock.now())
    await hall.settle()
    assert got.result() == ["1"]


async def test_a_topic_that_is_resumed_wakes_at_once(hall: Hall) -> None:
    await hall.engine.set_paused("t", True)
    await hall.insert("1")
    got = hall.wait()
    await hall.advance(SECOND)
    assert not got.done()
    await hall.engine.set_paused("t", False)
    await hall.settle()
    assert got.result() == ["1"]


async def test_an_expired_task_is_not_handed_out(hall: Hall) -> None:
    await hall.insert("1", later=2 * SECOND, expires=hall.clock.now() + SECOND)
    got = hall.wait()
    await hall.settle()
    await hall.advance(2 * SECOND)
    assert not got.done()
    await hall.insert("2")
    await hall.settle()
    assert got.result() == ["2"]


class EarlyClock(ManualClock):
    """Wakes at the latest after a second, as the system's clock does after a minute."""

    def call_at(self, when: int, callback: Callable[[], None]) -> ManualTimer:
        return super().call_at(min(when, self.now() + SECOND), callback)


async def test_a_clock_may_wake_too_early() -> None:
    hall = await Hall(MemdbEngine(), EarlyClock()).open()
    await hall.insert("1", later=4 * SECOND)
    first, second = hall.wait(), hall.wait(wait=6 * SECOND)
    await hall.settle()
    for second_passed in range(1, 8):
        await hall.advance(SECOND)
        assert first.done() is (second_passed >= 4)
        assert second.done() is (second_passed >= 6)
    assert (first.result(), second.result()) == (["1"], [])
    await hall.assert_empty()


# ---- several topics ----------------------------------------------------------------------------------


async def test_the_preferred_topic_first(hall: Hall) -> None:
    await hall.insert("bulk", topic="bulk", priority=9)
    await hall.insert("urgent", topic="urgent")
    assert await hall.wait("urgent", "bulk", limit=1) == ["urgent"]
    assert await hall.wait("urgent", "bulk", limit=9) == ["bulk"]
    await hall.assert_empty()


@pytest.mark.parametrize("topic", ["a", "b", "c"])
async def test_any_of_several_topics_wakes(hall: Hall, topic: str) -> None:
    got = hall.wait("a", "b", "c", "a")
    await hall.settle()
    await hall.insert("1", topic=topic)
    await hall.settle()
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_any_of_several_topics_wakes_at_its_time(hall: Hall) -> None:
    await hall.insert("1", topic="a", later=3 * SECOND)
    await hall.insert("2", topic="b", later=2 * SECOND)
    first, second = hall.wait("a", "b"), hall.wait("a", "b")
    await hall.settle()
    await hall.advance(2 * SECOND)
    assert (first.result(), second.done()) == (["2"], False)
    await hall.advance(SECOND)
    assert second.result() == ["1"]
    await hall.assert_empty()


async def test_arrival_counts_across_topics(hall: Hall) -> None:
    waits = [hall.wait("a"), hall.wait("a", "b"), hall.wait("b"), hall.wait("b", "a")]
    await hall.settle()
    for name, topic in (("1", "b"), ("2", "b"), ("3", "a"), ("4", "a")):
        await hall.insert(name, topic=topic)
        await hall.settle()
    assert [wait.result() for wait in waits] == [["3"], ["1"], ["2"], ["4"]]
    await hall.assert_empty()


# ---- the end of a wait -------------------------------------------------------------------------------


async def test_a_wait_ends_when_its_time_is_over(hall: Hall) -> None:
    got = hall.wait(wait=2 * SECOND)
    await hall.settle()
    await hall.advance(2 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == []
    await hall.insert("1")
    await hall.assert_empty()
    assert await hall.state("1") == PENDING


async def test_who_waited_in_vain_is_passed_over(hall: Hall) -> None:
    first, second = hall.wait(wait=SECOND), hall.wait(wait=5 * SECOND)
    await hall.settle()
    await hall.advance(SECOND)
    await hall.insert("1")
    await hall.settle()
    assert (first.result(), second.result()) == ([], ["1"])


async def test_a_peer_that_is_gone_takes_no_task(hall: Hall) -> None:
    peer = Peer()
    first, second = hall.wait(peer=peer), hall.wait()
    await hall.settle()
    peer.go()
    await hall.insert("1")
    await hall.settle()
    assert (first.result(), second.result()) == ([], ["1"])
    assert peer.callback is None
    await hall.assert_empty()


async def test_a_request_that_is_cancelled_takes_no_task(hall: Hall) -> None:
    first, second = hall.wait(), hall.wait()
    await hall.settle()
    first.cancel()
    await hall.insert("1")
    await hall.settle()
    assert first.cancelled()
    assert second.result() == ["1"]
    await hall.assert_empty()


async def test_a_request_that_is_cancelled_with_its_task_in_hand_gives_it_back(hall: Hall) -> None:
    first, second = hall.wait(), hall.wait()
    await hall.settle()
    await hall.insert("1")
    await asyncio.sleep(0)  # claimed for it, but it does not know yet
    assert (await hall.state("1"), first.done()) == (ACTIVE, False)
    first.cancel()
    await hall.settle()
    assert first.cancelled()
    assert second.result() == ["1"]
    task = await hall.engine.get("1")
    assert task is not None
    assert task.attempts == 1
    await hall.assert_empty()


async def test_giving_back_leaves_claims_of_others_alone(hall: Hall) -> None:
    await hall.insert("1", "2", "3")
    claimed = [await hall.claim() for _ in range(3)]
    now = hall.clock.now()
    await hall.engine.release("2", now)
    await hall.engine.claim_task("2", Selection((), now + MINUTE), now, force=False)
    await hall.engine.delete_task("3")
    await hall.long_polls.give_back(claimed)
    assert (await hall.state("1"), await hall.state("2")) == (PENDING, ACTIVE)


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("failures", [1, 2])
async def test_a_claim_that_cannot_be_given_back_leaves_the_others_alone(
    caplog: pytest.LogCaptureFixture, shared: bool, failures: int
) -> None:
    """It is tried once more at the end; what fails again is logged."""

    class Troubled(MemdbEngine):
        traits = Traits(name="troubled", durable=False, shared=shared, immediate=not shared)
        failures: dict[str, int]

        async def release(
            self, task_id: str, now: int, nonce: str | None = None, hold: int | None = None
        ) -> bool:
            if self.failures.get(task_id):
                self.failures[task_id] -= 1
                raise ServiceUnavailable("the database is away")
            return await super().release(task_id, now, nonce, hold)

    engine = Troubled()
    hall = await Hall(engine).open()
    await hall.insert("1", "2", "3")
    claimed = [await hall.claim() for _ in range(3)]
    engine.failures = {"1": failures, "2": 1}
    await hall.long_polls.give_back(claimed)
    states = [await hall.state(task_id) for task_id in "123"]
    assert states == [ACTIVE if failures == 2 else PENDING, PENDING, PENDING]
    assert ("could not be released" in caplog.text) is (failures == 2)


async def test_closing_sends_everybody_away(hall: Hall) -> None:
    await hall.insert("1", topic="other")
    waits = [hall.wait(), hall.wait("a", "b"), hall.wait_settled("1")]
    await hall.settle()
    hall.long_polls.close()
    await hall.settle()
    for wait in waits:
        assert isinstance(wait.exception(), ServiceUnavailable)
    await hall.insert("2")
    for late in (hall.wait(), hall.wait_settled("1")):
        await hall.settle()
        assert isinstance(late.exception(), ServiceUnavailable)
    assert await hall.state("2") == PENDING
    await hall.assert_empty()


# ---- many topics -------------------------------------------------------------------------------------


class Counting(MemdbEngine):
    """Counts the topics that claims look at."""

    looked = 0

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        self.looked += len(selection.topics)
        return await super().claim(selection, now)


async def test_waiting_for_many_topics_looks_at_each_once() -> None:
    engine = Counting()
    hall = await Hall(engine).open()
    topics = [str(number) for number in range(300)]
    waits = [hall.wait(*topics) for _ in range(20)]
    await hall.settle()
    assert engine.looked == len(topics)
    await hall.insert("1", topic="7")
    await hall.settle()
    assert waits[0].result() == ["1"]
    assert engine.looked <= len(topics) + 2  # the topic of the task, for the first waiter and for the second
    await hall.advance(10 * SECOND)
    assert all(wait.result() == [] for wait in waits[1:])
    await hall.assert_empty()


async def test_who_came_behind_gets_what_the_first_left() -> None:
    hall = await Hall(MemdbEngine()).open()
    await hall.insert("1", "2")
    waits = [hall.wait(), hall.wait()]
    await hall.settle()
    assert [wait.result() for wait in waits] == [["1"], ["2"]]
