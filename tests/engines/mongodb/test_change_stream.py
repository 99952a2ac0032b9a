"""What one server does is heard by another: at once on a replica set, by looking on a single server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from pymongo.errors import AutoReconnect
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.clock import SystemClock
from ratus.core.records import ARCHIVED, PENDING, Claim, CommitRecord, TaskRecord
from ratus.runtime.long_polls import LongPollQueue, Want
from ratus.testing import START
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, Ear
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio

# A change is heard within a few milliseconds; a busy machine may take longer.
PATIENCE = 60.0


@pytest.fixture
async def pair(replica_set: servers.ReplicaSet, database: str) -> AsyncIterator[tuple[Desk, Ear]]:
    """A desk, and the ear of another engine on the same data that follows its changes."""
    desk = Desk("mongodb", partial(MongodbEngine, replica_set.uri, database=database))
    desk.engine = await desk.start()
    await desk.engine.delete_topics()
    other = await desk.start()
    assert isinstance(other, MongodbEngine)
    await asyncio.wait_for(other._watcher.following.wait(), PATIENCE)
    other.listener = ear = Ear()
    yield desk, ear
    await desk.end()


async def heard(found: list[str], wanted: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while wanted not in found:
            await asyncio.sleep(0.005)


Step = Callable[[Desk], Awaitable[object]]

AVAILABLE: dict[str, Step] = {
    "insert": lambda d: d.add("new"),
    "upsert": lambda d: d.upsert(d.task("new")),
    "release": lambda d: d.engine.release("claimed", d.now),
    "recover": lambda d: d.engine.recover(d.now + HOUR),
    "give back": lambda d: d.commit("claimed", state=PENDING),
    "revive": lambda d: d.commit("dead", state=PENDING),
    "move": lambda d: d.commit("elsewhere", topic="t", state=PENDING),
    "sooner": lambda d: d.commit("pending", state=PENDING, scheduled=d.now - SECOND),
}
SETTLED: dict[str, Step] = {
    "complete": lambda d: d.commit("claimed"),
    "archive": lambda d: d.commit("claimed", state=ARCHIVED),
    "delete": lambda d: d.engine.delete_task("claimed"),
    "replace": lambda d: d.upsert(d.task("claimed", state=ARCHIVED)),
}


async def fill(desk: Desk) -> None:
    await desk.add("claimed", state=1, deadline=desk.now + MINUTE)
    await desk.add("dead", state=ARCHIVED)
    await desk.add("pending", scheduled=desk.now + HOUR)
    await desk.add("elsewhere", topic="other", state=ARCHIVED)


@pytest.mark.parametrize("name", AVAILABLE)
async def test_a_task_became_available(pair: tuple[Desk, Ear], name: str) -> None:
    desk, ear = pair
    await fill(desk)
    await desk.add("marker", topic="marker")
    await heard(ear.topics, "marker")
    ear.topics.clear()
    await AVAILABLE[name](desk)
    await heard(ear.topics, "t")


@pytest.mark.parametrize("name", SETTLED)
async def test_a_task_was_settled(pair: tuple[Desk, Ear], name: str) -> None:
    desk, ear = pair
    await fill(desk)
    await SETTLED[name](desk)
    await heard(ear.tasks, "claimed")


async def test_a_stream_that_breaks_and_comes_back_is_told(
    pair: tuple[Desk, Ear], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the listener has to look by itself: what happened in between is in no stream."""
    desk, ear = pair
    other = next(engine for engine in desk._open if engine is not desk.engine)
    assert isinstance(other, MongodbEngine)
    assert other.follows()
    before = ear.gaps
    broken = asyncio.Event()

    async def notify(*arguments: object) -> None:
        broken.set()
        raise AutoReconnect("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(other._watcher, "_notify", notify)
        await desk.add("1")
        await asyncio.wait_for(broken.wait(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while ear.gaps < before + 2:
            await asyncio.sleep(0.005)
    assert other.follows()


async def test_own_changes_are_told_once(pair: tuple[Desk, Ear]) -> None:
    desk, _ = pair
    assert isinstance(desk.engine, MongodbEngine)
    await asyncio.wait_for(desk.engine._watcher.following.wait(), PATIENCE)
    desk.engine.listener = ear = Ear()
    await desk.add("1")
    await desk.add("2")
    await desk.commit("1")
    await desk.engine.delete_task("2")
    # Another server's changes come behind them in the stream.
    one, two = desk._open
    second = two if desk.engine is one else one
    await second.insert([desk.task("marker", "marker")], desk.now)
    await heard(ear.topics, "marker")
    assert ear.topics == ["t", "t", "marker"]
    assert ear.tasks == ["1", "2"]


async def test_a_waiting_request_is_served_by_anothers_insert(
    replica_set: servers.ReplicaSet, database: str
) -> None:
    producer, consumer = (MongodbEngine(replica_set.uri, database=database) for _ in range(2))
    clock = SystemClock()
    for engine in (producer, consumer):
        await engine.open(START)
    await producer.delete_topics()
    await asyncio.wait_for(consumer._watcher.following.wait(), PATIENCE)
    queue = LongPollQueue(consumer, clock)
    delays = []
    for number in range(10):
        want = Want(("t",), "", 1, MINUTE, None)
        wait = asyncio.create_task(queue.wait(want, clock.monotonic() + MINUTE, lambda _: None))
        # Time for the queue to look and to fall asleep.
        await asyncio.sleep(0.1)
        task = TaskRecord(f"{number}", "t", clock.now(), clock.now())
        await producer.insert([task], clock.now())
        inserted = clock.now()
        (claimed,) = await asyncio.wait_for(wait, PATIENCE)
        delays.append(clock.now() - inserted)
        assert claimed.id == f"{number}"
        await producer.commit([CommitRecord(claimed.id, claimed.nonce)], clock.now())
    # The queue by itself looks twice a second: half of the waits would be longer than this.
    assert sorted(delays)[len(delays) // 2] < 0.2 * SECOND
    for engine in (producer, consumer):
        await engine.close(START)


async def test_a_single_server_is_looked_at_now_and_then(
    desk: Desk, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = desk.engine
    assert isinstance(engine, MongodbEngine)
    await desk.add("1")
    assert engine._watcher._watching is not None
    await asyncio.wait_for(asyncio.wait([engine._watcher._watching]), PATIENCE)
    assert "now and then" in caplog.text
    assert (await engine.claim(Claim(("t",), desk.now + HOUR), desk.now))[0].id == "1"
