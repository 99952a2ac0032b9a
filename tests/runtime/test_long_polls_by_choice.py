"""Waiting polls that choose tasks, and waiting polls before topics and lanes that limits close."""

from __future__ import annotations

from typing import Any

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import MINUTE, SECOND
from ratus.core.errors import Closed
from ratus.core.records import CommitRecord, Rare, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import Limits, PerLabel, Rate
from tests.runtime.hall import Hall

pytestmark = pytest.mark.anyio

HOUR = 60 * MINUTE

EU, US = Where("region", ("eu",)), Where("region", ("us",))


class Counting(MemdbEngine):
    """Counts how often it is asked for tasks and for times."""

    asked = 0

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        self.asked += 1
        return await super().claim(selection, now)

    async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
        self.asked += 1
        return await super().next_due(topic, now, where)


@pytest.fixture
async def hall() -> Hall:
    return await Hall(Counting(random=lambda: 0.5)).open()


def asked(hall: Hall) -> int:
    assert isinstance(hall.engine, Counting)
    return hall.engine.asked


def labels(**values: str) -> Rare:
    pairs = ",".join(f'"{name}":"{value}"' for name, value in values.items())
    return Rare(labels=b"{%s}" % pairs.encode())


async def commit(hall: Hall, task_id: str, **members: Any) -> None:
    task = await hall.engine.get(task_id)
    assert task is not None
    await hall.engine.commit([CommitRecord(task_id, task.nonce, **members)], hall.clock.now())
    await hall.settle()


async def limit(hall: Hall, **limits: object) -> None:
    await hall.engine.change_settings("t", limits=Limits(**limits))  # type: ignore[arg-type]  # as given
    await hall.settle()


# ---- where -------------------------------------------------------------------------------------------


async def test_a_task_goes_to_the_first_that_can_use_it(hall: Hall) -> None:
    us, eu, second = hall.wait(where=US), hall.wait(where=EU), hall.wait(where=EU)
    await hall.settle()
    await hall.insert("1", rare=labels(region="eu"))
    await hall.settle()
    assert (us.done(), eu.result(), second.done()) == (False, ["1"], False)
    await hall.insert("2", rare=labels(region="us"))
    await hall.insert("3", rare=labels(region="eu"))
    await hall.settle()
    assert (us.result(), second.result()) == (["2"], ["3"])
    await hall.assert_empty()


async def test_a_task_that_does_not_match_ends_no_wait_and_asks_the_engine_nothing(hall: Hall) -> None:
    got = hall.wait(where=US)
    await hall.settle()
    before = asked(hall)
    for number in range(20):
        await hall.insert(f"{number}", rare=labels(region="eu"))
        await hall.insert(f"plain {number}")
        await hall.settle()
    assert not got.done()
    assert asked(hall) == before
    await hall.advance(10 * SECOND)
    assert got.result() == []
    await hall.assert_empty()


async def test_plain_polls_and_choosing_ones_wait_side_by_side(hall: Hall) -> None:
    chosen, plain = hall.wait(where=US), hall.wait()
    await hall.settle()
    await hall.insert("1", rare=labels(region="eu"))
    await hall.settle()
    assert (plain.result(), chosen.done()) == (["1"], False)
    await hall.insert("2", rare=labels(region="us"))
    await hall.settle()
    assert chosen.result() == ["2"]
    await hall.assert_empty()


async def test_a_task_that_falls_due_for_a_choice(hall: Hall) -> None:
    await hall.insert("1", later=2 * SECOND, rare=labels(region="us"))
    await hall.insert("2", later=SECOND, rare=labels(region="eu"))
    us, eu = hall.wait(where=US), hall.wait(where=EU)
    await hall.settle()
    await hall.advance(SECOND)
    assert (eu.result(), us.done()) == (["2"], False)
    await hall.advance(SECOND)
    assert us.result() == ["1"]
    await hall.assert_empty()


async def test_over_several_topics(hall: Hall) -> None:
    got = hall.wait("a", "b", where=US)
    await hall.settle()
    await hall.insert("1", topic="a", rare=labels(region="eu"))
    await hall.insert("2", topic="b", rare=labels(region="us"))
    await hall.settle()
    assert got.result() == ["2"]
    await hall.assert_empty()


async def test_a_poll_with_another_choice_need_not_queue(hall: Hall) -> None:
    hall.wait(where=US)
    await hall.settle()
    assert hall.long_polls.is_empty(Selection(("t",)))
    assert hall.long_polls.is_empty(Selection(("t",), where=EU))
    assert not hall.long_polls.is_empty(Selection(("t",), where=Where("region", ("us",))))
    assert not hall.long_polls.is_empty(Selection(("t",), where=US, order="newest"))
    await hall.advance(10 * SECOND)
    await hall.assert_empty()


# ---- limits ------------------------------------------------------------------------------------------


async def test_a_freed_place_wakes_the_first(hall: Hall) -> None:
    await limit(hall, concurrency=1)
    await hall.insert("1", "2", "3")
    assert (await hall.claim()).id == "1"
    first, second = hall.wait(), hall.wait()
    await hall.settle()
    assert not first.done()
    await commit(hall, "1")
    assert (first.result(), second.done()) == (["2"], False)
    await commit(hall, "2")
    assert second.result() == ["3"]
    await hall.assert_empty()


async def test_a_place_that_frees_in_a_lane_wakes_one_that_waits(hall: Hall) -> None:
    await limit(hall, per=PerLabel("region", concurrency=1))
    await hall.insert("1", "2", rare=labels(region="eu"))
    assert (await hall.claim()).id == "1"
    plain, chosen = hall.wait(), hall.wait(where=US)
    await hall.settle()
    await commit(hall, "1")
    assert (plain.result(), chosen.done()) == (["2"], False)
    await hall.advance(10 * SECOND)
    await hall.assert_empty()


async def test_a_rate_that_reopens_wakes_one_at_a_time(hall: Hall) -> None:
    await limit(hall, rate=Rate(1, SECOND))
    await hall.insert("1", "2", "3")
    got = [hall.wait(wait=MINUTE) for _ in range(3)]
    await hall.settle()
    assert [wait.done() for wait in got] == [True, False, False]
    await hall.advance(SECOND)
    assert [wait.done() for wait in got] == [True, True, False]
    await hall.advance(SECOND)
    assert [wait.result() for wait in got] == [["1"], ["2"], ["3"]]
    await hall.assert_empty()


async def test_the_end_of_a_hold_and_its_lifting_wake(hall: Hall) -> None:
    await hall.insert("1", "2")
    await hall.claim()
    await commit(hall, "1", hold=MINUTE, state=0)
    first = hall.wait(wait=HOUR)
    await hall.settle()
    assert not first.done()
    await hall.advance(MINUTE)
    assert first.result() == ["1"]
    await commit(hall, "1", hold=HOUR)
    second = hall.wait(wait=HOUR)
    await hall.settle()
    assert not second.done()
    await hall.engine.lift_holds("t", hall.clock.now())
    await hall.settle()
    assert second.result() == ["2"]
    await hall.assert_empty()


async def test_new_limits_and_a_resumed_topic_wake(hall: Hall) -> None:
    await limit(hall, concurrency=1)
    await hall.insert("1", "2", "3")
    await hall.claim()
    got = hall.wait(limit=2)
    await hall.settle()
    await limit(hall, concurrency=2)
    assert got.result() == ["2"]
    await hall.engine.set_paused("t", True)
    again = hall.wait()
    await hall.settle()
    await hall.engine.change_settings("t", limits=None, paused=False)
    await hall.settle()
    assert again.result() == ["3"]
    await hall.assert_empty()


async def test_a_wait_that_a_rate_ends_says_when_it_reopens(hall: Hall) -> None:
    await limit(hall, rate=Rate(1, MINUTE))
    await hall.insert("1", "2")
    await hall.claim()
    reopens = hall.clock.now() + MINUTE
    got = hall.wait()
    await hall.settle()
    await hall.advance(10 * SECOND)
    with pytest.raises(Closed) as caught:
        got.result()
    assert caught.value.reopens == reopens
    await hall.assert_empty()


async def test_a_wait_says_nothing_of_a_closing_that_is_over(hall: Hall) -> None:
    await limit(hall, rate=Rate(1, MINUTE))
    await hall.insert("1", "2")
    await hall.claim()
    got = hall.wait()
    await hall.settle()
    await hall.engine.delete_task("2")
    await limit(hall, rate=Rate(1, HOUR))  # limits are looked at again, and nothing is due
    await hall.advance(10 * SECOND)
    assert got.result() == []
    await hall.assert_empty()


@pytest.mark.parametrize("closed_by", ["concurrency", "lane", "rate", "ordered", "paused", "hold"])
async def test_a_closed_topic_costs_nothing_while_a_thousand_wait(hall: Hall, closed_by: str) -> None:
    await hall.insert(*(f"{n}" for n in range(50)), rare=labels(region="eu"))
    if closed_by == "paused":
        await hall.engine.set_paused("t", True)
    elif closed_by == "concurrency":
        await limit(hall, concurrency=1)
    elif closed_by == "lane":
        await limit(hall, per=PerLabel("region", concurrency=1))
    elif closed_by == "rate":
        await limit(hall, rate=Rate(1, HOUR))
    elif closed_by == "ordered":
        await limit(hall, per=PerLabel("region", ordered=True))
    if closed_by != "paused":
        await hall.claim(timeout=HOUR)
    if closed_by == "hold":
        await commit(hall, "0", hold=HOUR)
    for number in range(1000):
        hall.wait(where=(None, EU, US)[number % 3], wait=MINUTE)
    await hall.settle()
    before = asked(hall)
    for _ in range(20):
        await hall.advance(SECOND)
    assert asked(hall) - before <= 3, "a timer that rings for nothing"
    await hall.advance(MINUTE)
    for wait in hall.waits:
        assert wait.exception() is not None or wait.result() == []
    await hall.settle()
    assert len(hall.long_polls) == 0
    assert hall.clock.pending() == 0
