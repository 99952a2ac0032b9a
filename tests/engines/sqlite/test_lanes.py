"""Labels and lanes: what is built in slices, what other processes do, and what stays behind."""

from __future__ import annotations

import asyncio
import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from ratus_engines.sqlite import lanes, queries
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.clock import MINUTE, SECOND, SystemClock
from ratus.core.errors import Closed
from ratus.core.records import ACTIVE, CommitRecord, LaneInfo, Rare, TaskQuery, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.core.turns import Closing, Limits, PerLabel, Rate, Reason
from ratus.engine.testkit.harness import CountingObserver, RecordingListener
from ratus.runtime.long_polls import LongPollQueue
from ratus.testing import START
from tests.engines.sqlite.conftest import Open
from tests.engines.sqlite.truth import check_lanes

pytestmark = pytest.mark.anyio

HOUR = 60 * MINUTE

PER_CUSTOMER = Limits(per=PerLabel("customer", concurrency=1))


def new(task_id: str, customer: str = "", **members: Any) -> TaskRecord:
    """A task in the topic ``t``, of the customer that is given or that its id begins with."""
    labels = b'{"customer":"%s"}' % (customer or task_id[0]).encode()
    now = members.pop("now", START)
    scheduled = now + members.pop("later", 0)
    return TaskRecord(task_id, "t", now, scheduled, rare=Rare(labels=labels), **members)


async def claim(engine: SqliteEngine, now: int = START, limit: int = 1, **chosen: Any) -> list[str]:
    tasks = await engine.claim(Selection(("t",), now + 100 * HOUR, "", limit, **chosen), now)
    return [task.id for task in tasks]


async def closed(engine: SqliteEngine, now: int = START) -> Closing | None:
    info = await engine.get_topic("t", now)
    assert info is not None
    return info.closed


async def built(engine: SqliteEngine) -> None:
    """Wait until all lanes are built."""
    while engine._building:
        await asyncio.wait(engine._building.values())


def count(path: Path, table: str) -> int:
    connection = sqlite3.connect(path)
    ((rows,),) = connection.execute(f"SELECT count(*) FROM {table}").fetchall()
    connection.close()
    return int(rows)


# ---- building ------------------------------------------------------------------------------------


@pytest.fixture
def slices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "SLICE", 7)


@pytest.mark.usefixtures("slices")
async def test_until_a_limit_per_label_is_built_nothing_is_handed_out(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new(f"{'abc'[n % 3]}{n}") for n in range(100)], START)
    engine.listener, engine.observer = RecordingListener(), CountingObserver()
    await asyncio.gather(
        engine.change_settings("t", limits=PER_CUSTOMER),
        *(_refused_while_it_is_built(engine) for _ in range(3)),
    )
    await built(engine)
    assert "t" in engine.listener.topics
    assert await closed(engine) is None
    assert await claim(engine, limit=9) == ["a0", "b1", "c2"]
    assert await claim(engine) == []
    check_lanes(path)


async def _refused_while_it_is_built(engine: SqliteEngine) -> None:
    while await closed(engine) is None:
        await asyncio.sleep(0)
    observer = engine.observer
    assert isinstance(observer, CountingObserver)
    assert await claim(engine) == []
    assert observer.refusals["t", "building"] > 0
    assert await engine.next_due("t", START) is None


@pytest.mark.usefixtures("slices")
async def test_until_a_preferred_label_is_built_tasks_go_in_line(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new(f"{'aaab'[n % 4]}{n}") for n in range(100)], START)
    assert await claim(engine, limit=3, prefer=("customer",)) == ["a0", "a1", "a2"]
    await built(engine)
    assert await claim(engine, limit=3, prefer=("customer",)) == ["b3", "b7", "b11"]
    check_lanes(path)


@pytest.mark.usefixtures("slices")
@pytest.mark.parametrize("seed", range(5))
async def test_what_happens_while_lanes_are_built_is_counted_once(
    path: Path, open_engine: Open, seed: int
) -> None:
    engine, draw = await open_engine(), random.Random(seed)
    await engine.insert([new(f"{draw.choice('abcd')}{n}", priority=n % 3) for n in range(200)], START)
    ids = [task.id for task in (await engine.list_tasks(TaskQuery("t", 1000))).tasks]
    await engine.list_lanes("t", "region", None, 1, START)

    async def meddle(number: int) -> None:
        task_id = draw.choice(ids)
        match number % 6:
            case 0:
                await engine.upsert([new(task_id, draw.choice("abcde"))], START)
            case 1:
                await engine.delete_task(task_id)
            case 2:
                await engine.insert([new(f"{draw.choice('abcde')}-{number}")], START)
            case 3:
                await engine.commit([CommitRecord(task_id, topic=draw.choice(("", "u")), state=0)], START)
            case 4:
                await claim(engine, limit=2)
            case 5:
                await engine.claim_task(ids[-1], Selection((), START + HOUR), START, force=True)

    limits = Limits(per=PerLabel("customer", rate=Rate(1, HOUR)))
    await asyncio.gather(
        engine.change_settings("t", limits=limits), *(meddle(number) for number in range(60))
    )
    await built(engine)
    check_lanes(path)
    await engine.change_settings("t", limits=PER_CUSTOMER)
    await asyncio.gather(*(meddle(number) for number in range(60)))
    await built(engine)
    check_lanes(path)


@pytest.mark.usefixtures("slices")
async def test_another_server_goes_on_with_what_one_began(path: Path, open_engine: Open) -> None:
    engine = SqliteEngine(path=str(path))
    await engine.open(START)
    await engine.insert([new(f"{'abc'[n % 3]}{n}") for n in range(300)], START)
    await engine.change_settings("t", limits=PER_CUSTOMER)
    await engine.close(START)
    assert count(path, "labels_in_use WHERE NOT built") == 1
    other = await open_engine()
    await other.maintain(START)
    await built(other)
    assert await claim(other, limit=9) == ["a0", "b1", "c2"]
    check_lanes(path)


@pytest.mark.usefixtures("slices")
async def test_other_limits_are_in_force_for_every_lane(path: Path, open_engine: Open) -> None:
    """The limits change while lanes are full, closed by a rate, or not looked at yet."""
    engine = await open_engine()
    names = [f"{n:03}" for n in range(50)]
    await engine.insert([new(f"{name}-{n}", name) for name in names for n in range(3)], START)
    for limits, more in (
        (Limits(per=PerLabel("customer", rate=Rate(1, HOUR))), 50),
        (Limits(per=PerLabel("customer", concurrency=2)), 50),
        (Limits(per=PerLabel("customer", concurrency=1)), 0),
        (Limits(per=PerLabel("customer", rate=Rate(1, HOUR))), 0),
        (None, 50),
    ):
        await engine.change_settings("t", limits=limits)
        await built(engine)
        try:
            assert len(await claim(engine, limit=1000)) == more
        except Closed:
            assert not more
    check_lanes(path)


# ---- what stays behind ---------------------------------------------------------------------------


async def test_values_that_come_and_go_leave_nothing_behind(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("kept")], START)
    await engine.change_settings("t", limits=Limits(per=PerLabel("customer", rate=Rate(1, MINUTE))))
    for start in range(0, 400, 100):
        tasks = [new(f"{n}", f"customer {n}") for n in range(start, start + 100)]
        await engine.insert(tasks, START)
        claimed = await engine.claim(Selection(("t",), START + HOUR, limit=200), START)
        await engine.commit([CommitRecord(task.id, task.nonce) for task in claimed], START)
    await engine.purge(START)
    assert count(path, "lanes") == 0
    assert count(path, "times") == 401
    page = await engine.list_lanes("t", "customer", "customer 3", 3, START)
    assert page == [
        LaneInfo(f"customer {name}", closed=Closing(Reason.RATE, START + MINUTE)) for name in (30, 300, 301)
    ]
    await engine.maintain(START + MINUTE)
    for table in ("times", "labels", "waiting", "lines", "lanes"):
        assert count(path, table) == 0, table


async def test_a_topic_without_tasks_is_forgotten_with_its_labels(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("a1"), new("b1")], START)
    (first, _) = await engine.claim(Selection(("t",), START + HOUR, limit=2, prefer=("customer",)), START)
    await engine.commit([CommitRecord(first.id, first.nonce, hold=MINUTE)], START)
    assert await engine.delete_tasks("t") == 2
    assert count(path, "labels_in_use") == count(path, "topics") == 0
    await engine.insert([new("a2")], START)
    with pytest.raises(Closed):
        await claim(engine)
    await engine.delete_topic("t")
    await engine.insert([new("a3")], START)
    assert await claim(engine) == ["a3"]
    assert count(path, "times") == 0


async def test_a_hold_is_lifted_where_nothing_is_left_of_it_but_its_time(
    path: Path, open_engine: Open
) -> None:
    engine = await open_engine()
    await engine.insert([new("a1"), new("b1"), new("b2")], START)
    await engine.change_settings("t", limits=PER_CUSTOMER)
    for task in await engine.claim(Selection(("t",), START + HOUR, limit=2), START):
        await engine.commit([CommitRecord(task.id, task.nonce, hold=HOUR)], START)
    await engine.insert([new("a2")], START)
    with pytest.raises(Closed):
        await claim(engine)
    await engine.lift_holds("t", START)
    assert sorted(await claim(engine, limit=9)) == ["a2", "b2"]
    assert count(path, "times") == 0


# ---- lists ---------------------------------------------------------------------------------------


async def test_a_list_by_several_labels_steps_over_what_has_only_one(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "SLICE", 5)
    engine = await open_engine()

    def labels(n: int) -> Rare:
        return Rare(labels=b'{"a":%d,"b":%d,"c":%d}' % (n % 2, n % 3, n % 50 == 48))

    await engine.insert([TaskRecord(str(n), "t", START, START, rare=labels(n)) for n in range(200)], START)
    for pairs, expected in (
        ((("a", "0"), ("b", "0")), [n for n in range(200) if n % 6 == 0]),
        ((("a", "0"), ("b", "0"), ("c", "1")), [48, 198]),
        ((("c", "1"), ("a", "0")), [48, 98, 148, 198]),
        ((("a", "0"), ("a", "1")), []),
    ):
        for limit, state in ((1, None), (7, 0), (1000, None)):
            found: list[str] = []
            after = None
            while True:
                page = await engine.list_tasks(TaskQuery("t", limit, after=after, labels=pairs, state=state))
                found += [task.id for task in page.tasks]
                after = page.next
                if after is None:
                    break
            assert found == [str(n) for n in expected]
    page = await engine.list_tasks(TaskQuery("t", 3, offset=30, labels=(("a", "0"), ("b", "0"))))
    assert [task.id for task in page.tasks] == ["180", "186", "192"]


# ---- clocks --------------------------------------------------------------------------------------


async def test_tasks_that_are_kept_due_take_turns(path: Path, open_engine: Open) -> None:
    """The clock is set back by an hour: tasks that were due stay due, in lanes and for ``where``."""
    engine = await open_engine()
    await engine.list_lanes("t", "customer", None, 1, START)
    await engine.insert([new("a1"), new("a2"), new("b1"), new("b2"), new("c1", later=MINUTE)], START)
    await engine.list_lanes("t", "customer", None, 1, START)
    back = START - HOUR
    assert await claim(engine, back, prefer=("customer",)) == ["a1"]
    check_lanes(path)
    assert await claim(engine, back, limit=9, where=Where("customer", ("b", "c"))) == ["b1", "b2"]
    assert await engine.release("b1", back)
    check_lanes(path)
    assert await claim(engine, back, order="newest") == ["b1"]
    assert await claim(engine, back, order="random") == ["a2"]
    await engine.release_topic("t", back)
    assert await claim(engine, back, limit=9, prefer=("customer",)) == ["b1", "a1", "b2", "a2"]
    await engine.release_topic("t", back)
    # An hour later they are due by the clock again.
    await engine.maintain(START)
    check_lanes(path)
    assert count(path, "early") == 0
    assert await claim(engine, START + MINUTE, limit=9, prefer=("customer",)) == [
        "c1",
        "b1",
        "a1",
        "b2",
        "a2",
    ]
    check_lanes(path)


@pytest.mark.parametrize("per_lane", [True, False])
async def test_after_the_clock_was_set_back_nothing_is_closed_for_long(
    open_engine: Open, per_lane: bool
) -> None:
    engine = await open_engine()
    rate = Rate(1, MINUTE)
    limits = Limits(per=PerLabel("customer", rate=rate)) if per_lane else Limits(rate=rate)
    await engine.insert([new(f"{name}{n}") for name in "abc" for n in range(3)], START)
    await engine.change_settings("t", limits=limits)
    first = await claim(engine, limit=9)
    back = START - HOUR
    with pytest.raises(Closed) as caught:
        await claim(engine, back)
    assert caught.value.reopens == back + MINUTE == await engine.next_due("t", back)
    assert len(await claim(engine, back + MINUTE, limit=9)) == len(first)


# ---- other processes -----------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["a place", "limits", "a hold", "a rate"])
async def test_a_wait_ends_when_another_server_opens_what_is_closed(open_engine: Open, what: str) -> None:
    waiting, other = await open_engine(), await open_engine()
    clock = SystemClock()
    now = clock.now()
    await other.insert([new("a1", now=now), new("a2", now=now)], now)
    limits = PER_CUSTOMER
    if what == "a rate":
        limits = Limits(per=PerLabel("customer", rate=Rate(1, SECOND // 2)))
    await other.change_settings("t", limits=limits)
    (task,) = await other.claim(Selection(("t",), now + HOUR), now)
    if what == "a hold":
        await other.commit([CommitRecord(task.id, task.nonce, hold=HOUR)], now)

    queue = LongPollQueue(waiting, clock)
    selection = Selection(("t",), timeout=MINUTE)
    waiter = asyncio.ensure_future(queue.wait(selection, clock.monotonic() + MINUTE, lambda callback: None))
    if what != "a rate":
        done, _ = await asyncio.wait([waiter], timeout=0.3)
        assert not done
    if what == "a place":
        await other.commit([CommitRecord(task.id, task.nonce)], clock.now())
    if what == "limits":
        await other.change_settings("t", limits=None)
    if what == "a hold":
        await other.lift_holds("t", clock.now())
    assert [task.id for task in await asyncio.wait_for(waiter, 30)] == ["a2"]


async def test_servers_that_claim_at_the_same_time_keep_the_limits(path: Path, open_engine: Open) -> None:
    engines = [await open_engine() for _ in range(3)]
    limits = Limits(concurrency=5, per=PerLabel("customer", concurrency=2))
    await engines[0].insert([new(f"{'abcd'[n % 4]}{n}") for n in range(200)], START)
    await engines[1].change_settings("t", limits=limits)
    held: list[TaskRecord] = []
    done = 0

    async def work(engine: SqliteEngine) -> None:
        nonlocal done
        for _ in range(30):
            tasks = await engine.claim(Selection(("t",), START + HOUR, limit=2), START)
            held.extend(tasks)
            assert len(held) <= 5
            for name in "abcd":
                assert sum(task.id.startswith(name) for task in held) <= 2
            for task in tasks:
                held.remove(task)
                done += 1
                await engine.commit([CommitRecord(task.id, task.nonce)], START)

    await asyncio.gather(*(work(engine) for engine in engines for _ in range(4)))
    assert done > 50
    check_lanes(path)
    assert count(path, f"tasks WHERE state = {ACTIVE}") == 0
    assert len(await claim(engines[2], limit=99)) == min(5, 200 - done)


# ---- what a task costs ---------------------------------------------------------------------------


async def test_expired_heads_do_not_close_a_lane(open_engine: Open) -> None:
    """Of a lane that a rate closes, only tasks that have not expired are due; also in an ordered one."""
    engine = await open_engine()
    soon = START + SECOND
    await engine.insert([new("a1"), new("a2", expires=soon), new("a3", later=MINUTE, expires=soon)], START)
    await engine.insert([new("a4", later=HOUR)], START)
    for ordered in (False, True):
        await engine.change_settings(
            "t", limits=Limits(per=PerLabel("customer", rate=Rate(1, 9 * HOUR), ordered=ordered))
        )
        if not ordered:
            assert await claim(engine) == ["a1"]
            await engine.commit([CommitRecord("a1")], START)
            with pytest.raises(Closed):
                await claim(engine)
        assert await claim(engine, soon) == []
    assert await engine.list_lanes("t", "customer", None, 9, soon) == [
        LaneInfo("a", 0, 1, Closing(Reason.ORDERED, START + HOUR))
    ]
