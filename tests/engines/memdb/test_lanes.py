"""Labels, turns and limits on the memory engine: what a claim looks at, building in slices, snapshots."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from ratus_engines.memdb import engine as engines
from ratus_engines.memdb import lanes as lanes_module
from ratus_engines.memdb import limits as limits_module
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.memdb.labelled import LabelledTopic
from ratus_engines.memdb.lanes import SLICE, Lanes
from ratus_engines.memdb.topics import Topic

from ratus.core.errors import Closed
from ratus.core.records import CommitRecord, Rare, TaskQuery, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import Closing, Limits, PerLabel, Rate, Reason
from ratus.engine.testkit.harness import CountingObserver, RecordingListener
from ratus.testing import START
from tests.engines.memdb.support import MINUTE, opened, task

pytestmark = pytest.mark.anyio

SECOND = 1_000_000
MANY = 4 * SLICE


def labelled(task_id: str, topic: str = "t", *, customer: str = "", **members: Any) -> TaskRecord:
    """A task of a customer, which is the first letter of its id unless another is given."""
    labels = b'{"customer":"%s"}' % (customer or task_id[0]).encode()
    found = task(task_id, topic, rare=Rare(labels=labels))
    return structs.replace(found, **members)


def wanted(limit: int = 1, **chosen: Any) -> Selection:
    return Selection(("t",), START + 10 * MINUTE, limit=limit, **chosen)


async def claim(engine: MemdbEngine, limit: int = 1, now: int = START, **chosen: Any) -> list[str]:
    return [found.id for found in await engine.claim(wanted(limit, **chosen), now)]


async def in_turn(engine: MemdbEngine, limit: int = 1, now: int = START) -> list[str]:
    return await claim(engine, limit, now, prefer=("customer",))


async def per_customer(engine: MemdbEngine, **limits: Any) -> None:
    await engine.change_settings("t", limits=Limits(per=PerLabel("customer", **limits)))


async def lanes_of(engine: MemdbEngine, now: int = START) -> dict[str | None, tuple[int, int]]:
    """Active and pending tasks by customer."""
    found = await engine.list_lanes("t", "customer", None, 1_000_000, now)
    return {lane.value: (lane.active, lane.pending) for lane in found}


def topic_of(engine: MemdbEngine) -> LabelledTopic:
    topic = engine._topics["t"]
    assert isinstance(topic, LabelledTopic)
    return topic


# ---- what costs nothing ------------------------------------------------------------------------------


async def test_a_topic_without_labels_limits_and_holds_keeps_nothing_of_them() -> None:
    engine = await opened()
    await engine.insert([task("1"), task("2", rare=Rare(trace=b"{}"))], START)
    await claim(engine, 2, order="newest", where=None)
    await engine.commit([CommitRecord("1")], START)
    await engine.lift_holds("t", START)
    assert type(engine._topics["t"]) is Topic


async def test_a_topic_that_gets_labels_keeps_its_place_its_tasks_and_its_pause() -> None:
    engine = await opened()
    for topic in ("a", "t", "b"):
        await engine.insert([task(f"{topic}1", topic)], START)
    await engine.set_paused("t", True)
    await engine.insert([labelled("c1")], START)
    assert await engine.list_topics(10, 0) == ["a", "t", "b"]
    info = await engine.get_topic("t", START)
    assert info is not None
    assert (info.counts[0], info.paused, info.lanes) == (2, True, 0)


# ---- what is looked at -------------------------------------------------------------------------------


async def test_a_list_by_labels_looks_at_the_tasks_with_the_rarest(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await opened()
    both = b'{"customer":"rare","region":"eu"}'
    tasks = [
        task(f"{n:04}", rare=Rare(labels=both if n % 500 == 0 else b'{"region":"eu"}'), state=n % 2)
        for n in range(2000)
    ]
    await engine.insert(tasks, START)
    looked = 0
    matches = TaskQuery.matches

    def counting(query: TaskQuery, found: TaskRecord) -> bool:
        nonlocal looked
        looked += 1
        return matches(query, found)

    monkeypatch.setattr(TaskQuery, "matches", counting)
    pairs = (("region", "eu"), ("customer", "rare"))
    page = await engine.list_tasks(TaskQuery("t", 10, labels=pairs))
    assert [found.id for found in page.tasks] == ["0000", "0500", "1000", "1500"]
    assert (await engine.list_tasks(TaskQuery("t", 10, labels=(*pairs, ("customer", "no"))))).tasks == []
    assert looked == 4


async def test_a_closed_value_with_many_tasks_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await opened()
    await engine.insert([labelled(f"a{n}") for n in range(MANY)], START)
    await per_customer(engine, rate=Rate(1, MINUTE))
    assert await claim(engine) == ["a0"]
    await engine.insert([labelled(f"b{n}", customer=f"b{n}") for n in range(50)], START)
    placed = count_calls(monkeypatch, Lanes, "_place")
    assert len(await claim(engine, 50)) == 50
    for _ in range(10):
        with pytest.raises(Closed):
            await claim(engine)
    assert len(placed) == 50


def count_calls(monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> list[None]:
    """A list that grows with every call of a method."""
    calls: list[None] = []
    method = getattr(owner, name)

    def counting(*arguments: Any) -> Any:
        calls.append(None)
        return method(*arguments)

    monkeypatch.setattr(owner, name, counting)
    return calls


async def test_a_claim_wakes_a_bounded_number_of_sleepers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes_module, "WOKEN", 4)
    engine = await opened()
    later = START + SECOND
    await engine.insert([labelled(f"{n:02}", customer=f"{n:02}", scheduled=later) for n in range(40)], START)
    assert await in_turn(engine) == []
    placed = count_calls(monkeypatch, Lanes, "_place")
    assert await in_turn(engine, now=later) == ["00"]
    assert len(placed) <= 6
    assert sorted(await in_turn(engine, 100, now=later)) == [f"{n:02}" for n in range(1, 40)]


async def test_lanes_that_are_closed_by_a_lower_limit_are_passed_over_in_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lanes_module, "WOKEN", 4)
    monkeypatch.setattr(engines, "AT_ONCE", 0)
    engine = await opened()
    await engine.insert([labelled(f"{c}{n}") for c in "abcdefghij" for n in range(3)], START)
    await per_customer(engine, concurrency=2)
    await built(engine)
    assert len(await claim(engine, 10)) == 10
    await per_customer(engine, concurrency=1)
    assert await claim(engine, 30) == []
    await per_customer(engine, concurrency=2)
    await built(engine)
    assert len(await claim(engine, 30)) == 10


async def test_expired_tasks_that_match_are_archived_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look for an open lane among many tasks that match takes long, so other requests run in between."""
    monkeypatch.setattr(engines, "LOOKED", 20)
    engine = await opened()
    tasks = [labelled(f"a{n}", expires=START + 1) for n in range(30)]
    for each in (*tasks, labelled("b1")):
        each.rare = Rare(labels=b'{"customer":"%s","region":"eu"}' % each.id[0].encode())
        await engine.insert([each], START)
    await per_customer(engine, concurrency=5)
    assert await claim(engine, 9, START + 1, where=Where("region", ("eu",))) == ["b1"]


# ---- building ----------------------------------------------------------------------------------------


async def built(engine: MemdbEngine) -> None:
    """Let the engine do what it does between requests."""
    while engine._worker is not None:
        await asyncio.sleep(0)


async def test_the_lanes_of_few_tasks_are_built_within_the_claim() -> None:
    engine = await opened()
    await engine.insert([labelled(name) for name in ("a1", "a2", "b1")], START)
    assert await in_turn(engine, 3) == ["a1", "b1", "a2"]
    assert engine._worker is None


async def test_until_lanes_are_built_claims_go_in_line() -> None:
    engine = await opened()
    await engine.insert([labelled(f"a{n:04}") for n in range(MANY * 2)], START)
    await engine.insert([labelled("b1"), labelled("b2")], START)
    assert await in_turn(engine, 2) == ["a0000", "a0001"]
    assert engine._worker is not None
    await built(engine)
    assert await in_turn(engine, 3) == ["b1", "b2", "a0002"]
    assert await lanes_of(engine) == {"a": (3, MANY * 2 - 3), "b": (2, 0)}


async def test_until_lanes_are_built_limits_per_label_close_the_topic() -> None:
    engine = await opened()
    engine.observer = observer = CountingObserver()
    await engine.insert([labelled(f"a{n:04}") for n in range(MANY * 2)], START)
    await per_customer(engine, concurrency=1)
    info = await engine.get_topic("t", START)
    assert info is not None
    assert info.closed == Closing(Reason.BUILDING)
    assert await claim(engine) == []
    assert observer.refusals == {("t", "building"): 1}
    assert await engine.next_due("t", START) is None
    engine.listener = listener = RecordingListener()
    await built(engine)
    assert listener.topics == ["t"]
    assert await claim(engine, 5) == ["a0000"]


async def test_a_list_of_lanes_waits_until_they_are_built() -> None:
    engine = await opened()
    await engine.insert([labelled(f"a{n:04}") for n in range(MANY * 2)], START)
    assert await lanes_of(engine) == {"a": (0, MANY * 2)}


async def test_what_changes_while_lanes_are_built_is_in_them() -> None:
    engine = await opened()
    await engine.insert([labelled(f"{'abc'[n % 3]}{n:04}") for n in range(MANY * 3)], START)
    await engine.insert([labelled("early", "u", customer="late")], START)
    await in_turn(engine)
    turns = 0
    while engine._worker is not None:
        turns += 1
        number = turns * SLICE
        await engine.insert([labelled(f"d{turns}")], START)
        await engine.delete_task(f"{'abc'[number % 3]}{number:04}")
        await engine.upsert([labelled(f"{'abc'[(number + 1) % 3]}{number + 1:04}", customer="e")], START)
        await engine.commit([CommitRecord(f"{'abc'[(number + 2) % 3]}{number + 2:04}", topic="u")], START)
        await engine.commit([CommitRecord("early", topic="t", state=0)], START)
        await claim(engine)
        await asyncio.sleep(0)
    assert turns >= 3
    found = await lanes_of(engine)
    topic = topic_of(engine)
    expected: dict[str | None, tuple[int, int]] = {}
    for state in (0, 1):
        for each in topic.by_state[state].after(None, 100_000):
            value = str(each.labels).split('"')[3]
            active, pending = expected.get(value, (0, 0))
            expected[value] = (active + state, pending + 1 - state)
    assert found == expected
    assert {"d", "e", "late"} <= set(found)


async def test_a_topic_that_is_deleted_while_lanes_are_built() -> None:
    engine = await opened()
    await engine.insert([labelled(f"a{n:04}") for n in range(MANY * 2)], START)
    listing = asyncio.ensure_future(engine.list_lanes("t", "customer", None, 10, START))
    await asyncio.sleep(0)
    await engine.delete_topic("t")
    assert await listing == []
    await built(engine)
    await engine.insert([labelled("b1")], START)
    assert topic_of(engine).lanes == {}


async def test_an_engine_closes_while_lanes_are_built() -> None:
    engine = await opened()
    await engine.insert([labelled(f"a{n:04}") for n in range(MANY * 2)], START)
    await in_turn(engine)
    worker = engine._worker
    assert worker is not None
    await engine.close(START)
    await asyncio.sleep(0)
    assert worker.cancelled()


@pytest.mark.parametrize("at_once", [2000, 0])
async def test_turns_go_on_when_limits_become_ordered_and_back(
    monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    engine = await opened()
    await engine.insert([labelled(f"{c}{n}") for n in range(4) for c in "abc"], START)
    await per_customer(engine, concurrency=9)
    assert await claim(engine, 4) == ["a0", "b0", "c0", "a1"]
    await engine.commit([CommitRecord(name) for name in ("a0", "b0", "c0", "a1")], START)
    monkeypatch.setattr(engines, "AT_ONCE", at_once)
    await per_customer(engine, ordered=True)
    await engine.claim_task("c3", wanted(), START, force=False)
    await engine.commit([CommitRecord("c3")], START)
    await built(engine)
    assert await claim(engine, 9) == ["b1", "a2", "c1"]
    await engine.change_settings("t", limits=None)
    await built(engine)
    assert await in_turn(engine, 9) == ["b2", "a3", "c2", "b3"]


# ---- memory ------------------------------------------------------------------------------------------


async def test_values_that_come_and_go_leave_nothing() -> None:
    engine = await opened()
    await per_customer(engine, rate=Rate(1, SECOND))
    now = START
    for number in range(3000):
        now = START + number * SECOND // 100
        await engine.insert([labelled(str(number), customer=str(number), scheduled=now)], now)
        assert await claim(engine, now=now) == [str(number)]
        await engine.commit([CommitRecord(str(number))], now)
    await engine.purge(now)
    topic = topic_of(engine)
    assert len(topic.times.of_label("customer")) <= 101
    await engine.insert([labelled("last")], now)
    await claim(engine, now=now + MINUTE)
    assert len(topic.times.of_label("customer")) == 1
    await engine.maintain(now + 2 * MINUTE)
    assert not topic.times
    info = await engine.get_topic("t", now)
    assert info is not None
    assert info.lanes == 1
    assert set(topic.lanes["customer"].by_value) == {"l"}
    assert len(topic.index) == 1


async def test_times_that_have_passed_are_forgotten_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits_module, "FORGOTTEN", 3)
    engine = await opened()
    await per_customer(engine, rate=Rate(1, SECOND))
    await engine.insert([labelled(str(n), customer=str(n)) for n in range(10)], START)
    assert len(await claim(engine, 10)) == 10
    topic = topic_of(engine)
    assert await claim(engine, now=START + SECOND) == []
    assert len(topic.times.of_label("customer")) == 7
    await engine.maintain(START + SECOND)
    assert not topic.times


async def test_holds_of_topics_that_are_gone_are_forgotten_when_they_end() -> None:
    engine = await opened()
    for number in range(10):
        await engine.insert([task(str(number), str(number))], START)
        await engine.commit([CommitRecord(str(number), hold=SECOND)], START)
    await engine.purge(START)
    assert len(engine._times) == 10
    assert await engine.list_topics(100, 0) == []
    await engine.maintain(START + SECOND)
    assert engine._times == {}


# ---- snapshots ---------------------------------------------------------------------------------------


async def test_turns_go_on_after_a_restart(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([labelled(name) for name in ("a1", "a2", "b1", "b2", "c1", "c2")], START)
    assert await in_turn(engine, 2) == ["a1", "b1"]
    await engine.commit([CommitRecord("a1"), CommitRecord("b1")], START)
    await engine.close(START)
    again = await opened(path)
    assert topic_of(again).lanes.keys() == {"customer"}
    await again.insert([labelled("d1")], START)
    assert await in_turn(again, 9) == ["c1", "a2", "b2", "d1", "c2"]


async def test_a_label_stays_in_use_without_lanes(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([labelled("a1", state=2, committed=START)], START)
    await in_turn(engine)
    await engine.close(START)
    assert topic_of(await opened(path)).lanes.keys() == {"customer"}


async def test_limits_rates_and_holds_survive_a_restart(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([labelled(name) for name in ("a1", "a2", "b1", "b2")], START)
    limits = Limits(rate=Rate(2, 2 * SECOND, 2), per=PerLabel("customer", rate=Rate(1, MINUTE)))
    await engine.change_settings("t", limits=limits)
    assert await claim(engine) == ["a1"]
    await engine.commit([CommitRecord("a1", hold=2 * MINUTE)], START)
    await engine.insert([task("only", "gone")], START)
    await engine.commit([CommitRecord("only", hold=MINUTE)], START)
    await engine.purge(START)
    await engine.close(START)

    again = await opened(path)
    assert await again.list_topics(10, 0) == ["t"]
    assert await claim(again, 9) == ["b1"]
    for now, reopens in ((START, START + SECOND), (START + SECOND, START + MINUTE)):
        with pytest.raises(Closed) as caught:
            await claim(again, now=now)
        assert caught.value.reopens == reopens
    held = (await again.list_lanes("t", "customer", None, 1, START))[0]
    assert held.closed == Closing(Reason.HOLD, START + 2 * MINUTE)
    await again.insert([task("next", "gone")], START)
    with pytest.raises(Closed):
        await again.claim(Selection(("gone",), START + MINUTE), START)


async def test_many_lanes_are_written_in_slices(path: Path) -> None:
    engine = await opened(path)
    names = [f"{n:04}" for n in range(MANY)]
    await engine.insert([labelled(name, customer=name) for name in names], START)
    await lanes_of(engine)
    for name in reversed(names):
        await engine.claim_task(name, wanted(), START, force=False)
        await engine.release(name, START)
    await engine.close(START)
    again = await opened(path)
    assert await in_turn(again, MANY) == names[::-1]
