"""What was decided from a task as it was read is not applied to a task that another server changed meanwhile.

An engine reads, decides and writes; between reading and writing a second engine changes the task and has its
change acknowledged. The write of the first must leave that alone, or decide anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from ratus_engines.mongodb import bulk_operations
from ratus_engines.mongodb.changes import Changes
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, members

pytestmark = pytest.mark.anyio

NONCE = "N" * 16

Step = Callable[[Harness], Awaitable[object]]


async def recover(harness: Harness) -> None:
    await harness.engine.recover(harness.now)


async def expire(harness: Harness) -> None:
    await harness.engine.expire(harness.now)


async def poll(harness: Harness) -> None:
    """A claim that takes care of lapsed claims and expired tasks first."""
    await harness.claim()


async def poll_for_many(harness: Harness) -> None:
    await harness.claim(limit=5)


def interrupted(harness: Harness, monkeypatch: pytest.MonkeyPatch, meanwhile: Step) -> None:
    """Have this done once, before the next change of the harness's own engine is written."""
    assert isinstance(harness.engine, MongodbEngine)
    own = harness.engine._changes
    done = False

    def before(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def written(self: Changes, *arguments: Any) -> Any:
            nonlocal done
            if self is own and not done and arguments != ([],):
                done = True
                await meanwhile(harness)
            return await write(self, *arguments)

        return written

    for name in ("change", "change_many"):
        monkeypatch.setattr(Changes, name, before(getattr(Changes, name)))


@pytest.mark.parametrize("chore", [recover, poll, poll_for_many])
@pytest.mark.parametrize(
    "replaced",
    [
        None,
        {"deadline": HOUR},
        {"retry": RetryPolicy(max_attempts=9)},
        {"retry": None},
        {"topic": "other", "deadline": HOUR},
    ],
    ids=["extended", "another deadline", "another policy", "no policy", "moved"],
)
async def test_a_lapse_leaves_what_was_acknowledged_meanwhile(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, chore: Step, replaced: dict[str, Any] | None
) -> None:
    other = await harness.start()
    seen = harness.task(
        "1",
        state=ACTIVE,
        nonce=NONCE,
        attempts=1,
        deadline=harness.now + SECOND,
        retry=RetryPolicy(max_attempts=1),
    )
    await harness.insert(seen)
    harness.now += SECOND

    async def meanwhile(harness: Harness) -> None:
        if replaced is None:
            await other.extend("1", NONCE, harness.now + MINUTE, harness.now)
            return
        new = {name: getattr(seen, name) for name in TaskRecord.__struct_fields__} | replaced
        if "deadline" in replaced:
            new["deadline"] += harness.now
        await other.upsert([TaskRecord(**new)], harness.now)

    interrupted(harness, monkeypatch, meanwhile)
    await chore(harness)
    task = await harness.get("1")
    if replaced is None or "deadline" in replaced:
        assert (task.state, task.nonce) == (ACTIVE, NONCE), members(task)
        assert task.deadline is not None
        assert task.deadline >= harness.now + MINUTE
    else:
        # Lapsed it has, but by the policy that it has now: it is no dead letter.
        await harness.engine.recover(harness.now)
        assert (await harness.get("1")).outcome == ""


@pytest.mark.parametrize("chore", [expire, poll, poll_for_many])
@pytest.mark.parametrize("expires", [HOUR, None])
async def test_an_expiry_leaves_what_was_acknowledged_meanwhile(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, chore: Step, expires: int | None
) -> None:
    other = await harness.start()
    await harness.add("1", expires=harness.now + SECOND)
    harness.now += SECOND

    async def meanwhile(harness: Harness) -> None:
        later = None if expires is None else harness.now + expires
        await other.upsert([harness.task("1", expires=later, scheduled=harness.now + MINUTE)], harness.now)

    interrupted(harness, monkeypatch, meanwhile)
    await chore(harness)
    assert (await harness.get("1")).state == PENDING
    harness.now += MINUTE
    assert (await harness.claim_one()).id == "1"


@pytest.mark.parametrize("several", [False, True])
async def test_a_failure_goes_by_the_policy_that_the_task_has_when_it_is_written(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    other = await harness.start()
    ids = ["1", "2"] if several else ["1"]
    one = RetryPolicy(max_attempts=1)
    await harness.insert(
        *(
            harness.task(n, state=ACTIVE, nonce=NONCE, attempts=1, deadline=harness.now + HOUR, retry=one)
            for n in ids
        )
    )

    async def meanwhile(harness: Harness) -> None:
        many = RetryPolicy(max_attempts=9, delay=SECOND, jitter=0.25)
        new = harness.task(
            "1", state=ACTIVE, nonce=NONCE, attempts=1, deadline=harness.now + HOUR, retry=many
        )
        await other.upsert([new], harness.now)

    interrupted(harness, monkeypatch, meanwhile)
    await harness.engine.commit([CommitRecord(n, NONCE, error="boom") for n in ids], harness.now)
    assert (await harness.get("1")).state == PENDING
    if several:
        assert (await harness.get("2")).state == ARCHIVED


async def test_a_task_that_is_made_active_keeps_the_deadline_it_got_meanwhile(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await harness.start()
    await harness.add("1")

    async def meanwhile(harness: Harness) -> None:
        await other.upsert([harness.task("1", deadline=harness.now + HOUR)], harness.now)

    interrupted(harness, monkeypatch, meanwhile)
    await harness.commit("1", state=ACTIVE)
    assert (await harness.get("1")).deadline == harness.now + HOUR


async def test_a_forced_claim_does_not_count_an_expiry_that_was_put_off(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await harness.start()
    await harness.add("1", expires=harness.now + SECOND, attempts=3)
    harness.now += SECOND

    async def meanwhile(harness: Harness) -> None:
        await other.upsert([harness.task("1", expires=harness.now + HOUR, attempts=3)], harness.now)

    interrupted(harness, monkeypatch, meanwhile)
    task = await harness.claim_task("1", force=True)
    assert task.attempts == 4  # a pending task goes on; only an archived one starts afresh


async def test_a_policy_is_the_same_in_whatever_order_another_program_wrote_it(harness: Harness) -> None:
    """Else its task would never lapse."""
    await harness.insert(harness.task("1", state=ACTIVE, nonce=NONCE, deadline=harness.now + SECOND))
    assert isinstance(harness.engine, MongodbEngine)
    await harness.engine._deployment.tasks.update_one(
        {"_id": "1"},
        {"$set": {"retry": {"jitter": 0, "max_attempts": 5, "backoff": "linear", "delay": None}}},
    )
    harness.now += SECOND
    assert await harness.engine.recover(harness.now) == 1


async def test_a_deadline_before_all_times_lapses(harness: Harness) -> None:
    """Another program may store a date that is read as the first time there is."""
    await harness.insert(harness.task("1", state=ACTIVE, nonce=NONCE, deadline=harness.now + SECOND))
    assert isinstance(harness.engine, MongodbEngine)
    first = DatetimeMS(-(10**15))
    await harness.engine._deployment.tasks.update_one({"_id": "1"}, {"$set": {"deadline": first}})
    assert await harness.engine.recover(harness.now) == 1


async def test_a_batch_that_another_server_took_first_is_not_the_last(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_operations, "BATCH", 3)
    other = await harness.start()
    assert isinstance(other, MongodbEngine)
    for number in range(5):
        await harness.add(f"{number}", state=ACTIVE, nonce=NONCE, deadline=harness.now - 5 + number)

    async def lapse_the_first_batch(harness: Harness) -> None:
        assert await other._bulk.lapse(harness.now, topic="t", most=3) == 3

    interrupted(harness, monkeypatch, lapse_the_first_batch)
    assert await harness.engine.recover(harness.now) == 2
    assert await harness.engine.recover(harness.now) == 0


async def test_a_purge_goes_on_behind_a_batch_that_another_server_deleted(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk_operations, "BATCH", 3)
    other = await harness.start()
    for number in range(5):
        await harness.add(f"{number}", state=COMPLETED, committed=harness.now - 5 + number)
    own = harness.engine
    assert isinstance(own, MongodbEngine)
    delete, deleted = own._bulk._delete, False

    async def overtaken(ids: list[str], condition: Any) -> int:
        nonlocal deleted
        if not deleted:
            deleted = True
            for each in ids:
                assert await other.delete_task(each)
        return await delete(ids, condition)

    monkeypatch.setattr(own._bulk, "_delete", overtaken)
    assert await own.purge(harness.now) == 2
