"""What an engine tells its listener, without which a waiting request would wait too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, Claim, CommitRecord, RetryPolicy
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, Ear

pytestmark = pytest.mark.anyio

Step = Callable[[Desk], Awaitable[object]]


async def told(desk: Desk, names: list[str], name: str) -> None:
    """The listener has heard this name; where the deployment tells of changes itself, within moments.

    One of `fill` that is heard of late may stand for the change that is looked for; that is told when it is
    heard of in its turn.
    """
    moments = 1000 if desk.engine.traits.name == "mongodb" else 1
    for _ in range(moments):
        if name in names:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"{name} was not told of: {names}")


async def fill(desk: Desk) -> None:
    """One task in each state, and one that expires."""
    await desk.add("pending", topic="pending", scheduled=desk.now + HOUR)
    await desk.add("expiring", topic="expiring", expires=desk.now + SECOND)
    await desk.add("claimed", topic="claimed", state=ACTIVE, deadline=desk.now + MINUTE, nonce="n" * 16)
    await desk.add(
        "last try",
        topic="last try",
        state=ACTIVE,
        deadline=desk.now + MINUTE,
        attempts=1,
        retry=RetryPolicy(max_attempts=1),
    )
    await desk.add("done", topic="done", state=COMPLETED, committed=desk.now)
    await desk.add("dead", topic="dead", state=ARCHIVED)
    await desk.engine.set_paused("paused", True)
    await desk.add("waiting", topic="paused")


AVAILABLE: dict[str, tuple[str, Step]] = {
    "insert": ("new", lambda d: d.add("new", topic="new")),
    "insert for later": ("new", lambda d: d.add("new", topic="new", scheduled=d.now + HOUR)),
    "upsert": ("new", lambda d: d.upsert(d.task("new", "new"))),
    "replace": ("claimed", lambda d: d.upsert(d.task("claimed", "claimed"))),
    "replace and move": ("new", lambda d: d.upsert(d.task("done", "new"))),
    "sooner": ("pending", lambda d: d.upsert(d.task("pending", "pending"))),
    "sooner by commit": ("pending", lambda d: d.commit("pending", state=PENDING, scheduled=d.now)),
    "revive": ("dead", lambda d: d.commit("dead", state=PENDING)),
    "do again": ("done", lambda d: d.commit("done", state=PENDING, scheduled=d.now + HOUR)),
    "move": ("new", lambda d: d.commit("claimed", state=PENDING, topic="new")),
    "fail": ("claimed", lambda d: d.fail("claimed", "n" * 16)),
    "fail and move": ("new", lambda d: d.fail("claimed", topic="new")),
    "release": ("claimed", lambda d: d.engine.release("claimed", d.now)),
    "release one": ("claimed", lambda d: d.engine.release("claimed", d.now, "n" * 16)),
    "release all": ("claimed", lambda d: d.engine.release_topic("claimed", d.now)),
    "recover": ("claimed", lambda d: d.engine.recover(d.now + MINUTE)),
    "resume": ("paused", lambda d: d.engine.set_paused("paused", False)),
}


@pytest.mark.parametrize("name", AVAILABLE)
async def test_a_task_became_available(desk: Desk, name: str) -> None:
    topic, step = AVAILABLE[name]
    await fill(desk)
    desk.engine.listener = ear = Ear()
    await step(desk)
    await told(desk, ear.topics, topic)


# A waiting request sleeps until the earliest time at which a task of its topic may fall due. What brings
# that time forward has to be told too, or it would sleep past the end of a claim.
SOONER: dict[str, tuple[str, Step]] = {
    "a claim before the task is due": ("pending", lambda d: d.claim_task("pending", timeout=SECOND)),
    "a claim by force": ("dead", lambda d: d.claim_task("dead", force=True)),
    "a shorter claim": ("claimed", lambda d: d.engine.extend("claimed", "", d.now + SECOND, d.now)),
    "an active task": ("new", lambda d: d.add("new", topic="new", state=ACTIVE)),
    "an active task in its place": ("done", lambda d: d.upsert(d.task("done", "done", state=ACTIVE))),
    "a commit to active": ("dead", lambda d: d.commit("dead", state=ACTIVE)),
}


@pytest.mark.parametrize("name", SOONER)
async def test_the_next_claim_may_succeed_sooner(desk: Desk, name: str) -> None:
    topic, step = SOONER[name]
    await fill(desk)
    before = await desk.engine.next_due(topic)
    desk.engine.listener = ear = Ear()
    await step(desk)
    after = await desk.engine.next_due(topic)
    assert after is not None
    assert before is None or after < before
    await told(desk, ear.topics, topic)


SETTLED: dict[str, tuple[str, Step]] = {
    "complete": ("claimed", lambda d: d.commit("claimed", "n" * 16)),
    "complete, forced": ("pending", lambda d: d.commit("pending")),
    "archive": ("claimed", lambda d: d.commit("claimed", state=ARCHIVED)),
    "fail for good": ("last try", lambda d: d.fail("last try")),
    "lapse for good": ("last try", lambda d: d.engine.recover(d.now + MINUTE)),
    "expire": ("expiring", lambda d: d.engine.expire(d.now + SECOND)),
    "replace by a completed one": ("pending", lambda d: d.upsert(d.task("pending", state=COMPLETED))),
    "insert a completed one": ("new", lambda d: d.add("new", state=COMPLETED)),
    "insert an archived one": ("new", lambda d: d.add("new", state=ARCHIVED)),
    "delete": ("pending", lambda d: d.engine.delete_task("pending")),
    "delete the tasks": ("pending", lambda d: d.engine.delete_tasks("pending")),
    "delete the topic": ("claimed", lambda d: d.engine.delete_topic("claimed")),
    "delete everything": ("dead", lambda d: d.engine.delete_topics()),
    "purge": ("done", lambda d: d.engine.purge(d.now)),
}


@pytest.mark.parametrize("name", SETTLED)
async def test_a_task_was_settled(desk: Desk, name: str) -> None:
    task_id, step = SETTLED[name]
    await fill(desk)
    desk.engine.listener = ear = Ear()
    await step(desk)
    await told(desk, ear.tasks, task_id)


async def test_a_batch_tells_of_each(desk: Desk) -> None:
    await fill(desk)
    desk.engine.listener = ear = Ear()
    await desk.insert(desk.task("1", "a"), desk.task("2", "b"), desk.task("dead", "c"))
    assert {"a", "b"} <= set(ear.topics)
    await desk.engine.commit([CommitRecord("1"), CommitRecord("missing"), CommitRecord("2")], desk.now)
    assert {"1", "2"} <= set(ear.tasks)


async def test_a_poll_tells_what_it_did_beside_its_claim(desk: Desk) -> None:
    """Lapsed claims that it took back but did not claim, expired tasks that it archived."""
    await desk.add("1", "2", state=ACTIVE, deadline=desk.now)
    await desk.add("3", state=ACTIVE, deadline=desk.now, attempts=1, retry=RetryPolicy(max_attempts=1))
    await desk.add("4", expires=desk.now, priority=1)
    desk.engine.listener = ear = Ear()
    (task,) = await desk.engine.claim(Claim(("t",), desk.now + MINUTE), desk.now)
    assert task.id == "1"
    assert "t" in ear.topics
    await desk.engine.expire(desk.now)
    assert {"3", "4"} <= set(ear.tasks)


async def test_only_what_happened_is_told(desk: Desk) -> None:
    await fill(desk)
    desk.engine.listener = ear = Ear()
    await desk.insert(desk.task("dead", "dead"))
    await desk.engine.delete_task("missing")
    await desk.engine.release("dead", desk.now)
    await desk.engine.recover(desk.now)
    await desk.engine.expire(desk.now)
    await desk.engine.purge(desk.now - HOUR)
    await desk.engine.commit([CommitRecord("claimed", "x" * 16)], desk.now)
    await desk.page("pending")
    assert (ear.topics, ear.tasks) == ([], [])


async def test_without_a_listener_nothing_is_missing(desk: Desk) -> None:
    await fill(desk)
    desk.engine.listener = None
    await desk.commit("claimed")
    await desk.engine.delete_topics()
