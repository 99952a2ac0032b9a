"""What an engine notifies its listener of, without which a waiting request would wait too long."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, CommitRecord, RetryPolicy
from ratus.core.selection import Selection
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, RecordingListener

Step = Callable[[Harness], Awaitable[object]]


async def notified(harness: Harness, names: list[str], name: str) -> None:
    """Assert that the listener was notified of this name.

    An engine that follows the notifications of its deployment has up to ten seconds. It may report a change
    that `fill` made so late that this takes it for the change under test, which is reported after it.
    """
    follows_others = harness.engine.traits.shared and harness.engine.follows()
    for _ in range(1000 if follows_others else 1):
        if name in names:
            return
        await asyncio.sleep(0.01)
    raise AssertionError(f"the listener was not notified of {name}, only of {names}")


async def fill(harness: Harness) -> None:
    """One task in each state, and one that expires."""
    await harness.add("pending", topic="pending", scheduled=harness.now + HOUR)
    await harness.add("expiring", topic="expiring", expires=harness.now + SECOND)
    await harness.add("claimed", topic="claimed", state=ACTIVE, deadline=harness.now + MINUTE, nonce="n" * 16)
    await harness.add(
        "last try",
        topic="last try",
        state=ACTIVE,
        deadline=harness.now + MINUTE,
        attempts=1,
        retry=RetryPolicy(max_attempts=1),
    )
    await harness.add("done", topic="done", state=COMPLETED, committed=harness.now)
    await harness.add("dead", topic="dead", state=ARCHIVED)
    await harness.engine.set_paused("paused", True)
    await harness.add("waiting", topic="paused")


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


# A waiting request sleeps until the earliest time at which a task of its topic may fall due. What brings
# that time forward is notified too, or the request would sleep past the end of a claim.
SOONER: dict[str, tuple[str, Step]] = {
    "a claim before the task is due": ("pending", lambda d: d.claim_task("pending", timeout=SECOND)),
    "a claim by force": ("dead", lambda d: d.claim_task("dead", force=True)),
    "a shorter claim": ("claimed", lambda d: d.engine.extend("claimed", "", d.now + SECOND, d.now)),
    "an active task": ("new", lambda d: d.add("new", topic="new", state=ACTIVE)),
    "an active task in its place": ("done", lambda d: d.upsert(d.task("done", "done", state=ACTIVE))),
    "a commit to active": ("dead", lambda d: d.commit("dead", state=ACTIVE)),
}


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


class NotifyingTests(EngineTests):
    """What an engine notifies its listener of, without which a waiting request would wait too long."""

    @pytest.mark.parametrize("name", AVAILABLE)
    async def test_the_listener_is_notified_of_an_available_task(self, harness: Harness, name: str) -> None:
        topic, step = AVAILABLE[name]
        await fill(harness)
        harness.engine.listener = listener = RecordingListener()
        await step(harness)
        await notified(harness, listener.topics, topic)

    @pytest.mark.parametrize("name", SOONER)
    async def test_the_listener_is_notified_when_the_next_claim_may_succeed_sooner(
        self, harness: Harness, name: str
    ) -> None:
        topic, step = SOONER[name]
        await fill(harness)
        before = await harness.engine.next_due(topic, harness.now)
        harness.engine.listener = listener = RecordingListener()
        await step(harness)
        after = await harness.engine.next_due(topic, harness.now)
        assert after is not None
        assert before is None or after < before
        await notified(harness, listener.topics, topic)

    @pytest.mark.parametrize("name", SETTLED)
    async def test_the_listener_is_notified_of_a_settled_task(self, harness: Harness, name: str) -> None:
        task_id, step = SETTLED[name]
        await fill(harness)
        harness.engine.listener = listener = RecordingListener()
        await step(harness)
        await notified(harness, listener.tasks, task_id)

    async def test_the_listener_is_notified_of_each_task_of_a_batch(self, harness: Harness) -> None:
        await fill(harness)
        harness.engine.listener = listener = RecordingListener()
        await harness.insert(harness.task("1", "a"), harness.task("2", "b"), harness.task("dead", "c"))
        assert {"a", "b"} <= set(listener.topics)
        await harness.engine.commit(
            [CommitRecord("1"), CommitRecord("missing"), CommitRecord("2")], harness.now
        )
        assert {"1", "2"} <= set(listener.tasks)

    async def test_the_listener_is_notified_of_what_a_poll_did_beside_its_claim(
        self, harness: Harness
    ) -> None:
        """The poll takes back lapsed claims that it does not claim itself, and archives expired tasks."""
        await harness.add("1", "2", state=ACTIVE, deadline=harness.now)
        await harness.add(
            "3", state=ACTIVE, deadline=harness.now, attempts=1, retry=RetryPolicy(max_attempts=1)
        )
        await harness.add("4", expires=harness.now, priority=1)
        harness.engine.listener = listener = RecordingListener()
        (task,) = await harness.engine.claim(Selection(("t",), harness.now + MINUTE), harness.now)
        assert task.id == "1"
        assert "t" in listener.topics
        await harness.engine.expire(harness.now)
        assert {"3", "4"} <= set(listener.tasks)

    async def test_the_listener_is_notified_of_nothing_else(self, harness: Harness) -> None:
        await fill(harness)
        harness.engine.listener = listener = RecordingListener()
        await harness.insert(harness.task("dead", "dead"))
        await harness.engine.delete_task("missing")
        await harness.engine.release("dead", harness.now)
        await harness.engine.recover(harness.now)
        await harness.engine.expire(harness.now)
        await harness.engine.purge(harness.now - HOUR)
        await harness.engine.commit([CommitRecord("claimed", "x" * 16)], harness.now)
        await harness.page("pending")
        assert (listener.topics, listener.tasks) == ([], [])

    async def test_without_a_listener_nothing_is_missing(self, harness: Harness) -> None:
        await fill(harness)
        harness.engine.listener = None
        await harness.commit("claimed")
        await harness.engine.delete_topics()
