"""What one server does is heard by another: at once on a replica set, by looking on a single server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
from pymongo.errors import AutoReconnect
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.clock import SystemClock
from ratus.core.records import ARCHIVED, PENDING, CommitRecord, TaskRecord
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, RecordingListener
from ratus.runtime.long_polls import LongPollQueue
from ratus.testing import START
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio

# A change is heard within a few milliseconds; a busy machine may take longer.
PATIENCE = 60.0


@pytest.fixture
async def pair(
    replica_set: servers.ReplicaSet, database: str
) -> AsyncIterator[tuple[Harness, RecordingListener]]:
    """A harness, and the listener of another engine on the same data that follows its changes."""
    harness = Harness(partial(MongodbEngine, replica_set.uri, database=database))
    harness.engine = await harness.start()
    await harness.engine.delete_topics()
    other = await harness.start()
    assert isinstance(other, MongodbEngine)
    await asyncio.wait_for(other._watcher.following.wait(), PATIENCE)
    other.listener = listener = RecordingListener()
    yield harness, listener
    await harness.end()


async def heard(found: list[str], wanted: str) -> None:
    async with asyncio.timeout(PATIENCE):
        while wanted not in found:
            await asyncio.sleep(0.005)


Step = Callable[[Harness], Awaitable[object]]

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


async def fill(harness: Harness) -> None:
    await harness.add("claimed", state=1, deadline=harness.now + MINUTE)
    await harness.add("dead", state=ARCHIVED)
    await harness.add("pending", scheduled=harness.now + HOUR)
    await harness.add("elsewhere", topic="other", state=ARCHIVED)


@pytest.mark.parametrize("name", AVAILABLE)
async def test_a_task_became_available(pair: tuple[Harness, RecordingListener], name: str) -> None:
    harness, listener = pair
    await fill(harness)
    await harness.add("marker", topic="marker")
    await heard(listener.topics, "marker")
    listener.topics.clear()
    await AVAILABLE[name](harness)
    await heard(listener.topics, "t")


@pytest.mark.parametrize("name", SETTLED)
async def test_a_task_was_settled(pair: tuple[Harness, RecordingListener], name: str) -> None:
    harness, listener = pair
    await fill(harness)
    await SETTLED[name](harness)
    await heard(listener.tasks, "claimed")


async def test_a_stream_that_breaks_and_comes_back_is_told(
    pair: tuple[Harness, RecordingListener], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the listener has to look by itself: what happened in between is in no stream."""
    harness, listener = pair
    other = next(engine for engine in harness._open if engine is not harness.engine)
    assert isinstance(other, MongodbEngine)
    assert other.follows()
    before = listener.gaps
    broken = asyncio.Event()

    async def notify(*arguments: object) -> None:
        broken.set()
        raise AutoReconnect("the connection broke")

    with monkeypatch.context() as patch:
        patch.setattr(other._watcher, "_notify", notify)
        await harness.add("1")
        await asyncio.wait_for(broken.wait(), PATIENCE)
    async with asyncio.timeout(PATIENCE):
        while listener.gaps < before + 2:
            await asyncio.sleep(0.005)
    assert other.follows()


async def test_own_changes_are_told_once(pair: tuple[Harness, RecordingListener]) -> None:
    harness, _ = pair
    assert isinstance(harness.engine, MongodbEngine)
    await asyncio.wait_for(harness.engine._watcher.following.wait(), PATIENCE)
    harness.engine.listener = listener = RecordingListener()
    await harness.add("1")
    await harness.add("2")
    await harness.commit("1")
    await harness.engine.delete_task("2")
    # Another server's changes come behind them in the stream.
    one, two = harness._open
    second = two if harness.engine is one else one
    await second.insert([harness.task("marker", "marker")], harness.now)
    await heard(listener.topics, "marker")
    assert listener.topics == ["t", "t", "marker"]
    assert listener.tasks == ["1", "2"]


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
        selection = Selection(("t",), timeout=MINUTE)
        wait = asyncio.create_task(queue.wait(selection, clock.monotonic() + MINUTE, lambda _: None))
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
    harness: Harness, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    await harness.add("1")
    assert engine._watcher._watching is not None
    await asyncio.wait_for(asyncio.wait([engine._watcher._watching]), PATIENCE)
    assert "now and then" in caplog.text
    assert (await engine.claim(Selection(("t",), harness.now + HOUR), harness.now))[0].id == "1"
