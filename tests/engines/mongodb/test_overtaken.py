"""What was decided from a task as it was read is not applied to a task that another server changed meanwhile.

An engine reads, decides and writes; between reading and writing a second engine changes the task and has its
change acknowledged. The write of the first must leave that alone, or decide anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from bson.datetime_ms import DatetimeMS
from ratus_engines.mongodb.changes import Changes
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.records import ACTIVE, ARCHIVED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio

NONCE = "N" * 16

Step = Callable[[Desk], Awaitable[object]]


async def recover(desk: Desk) -> None:
    await desk.engine.recover(desk.now)


async def expire(desk: Desk) -> None:
    await desk.engine.expire(desk.now)


async def poll(desk: Desk) -> None:
    """A claim that takes care of lapsed claims and expired tasks first."""
    await desk.claim()


async def poll_for_many(desk: Desk) -> None:
    await desk.claim(limit=5)


def interrupted(desk: Desk, monkeypatch: pytest.MonkeyPatch, meanwhile: Step) -> None:
    """Have this done once, before the next change of the desk's own engine is written."""
    assert isinstance(desk.engine, MongodbEngine)
    own = desk.engine._changes
    done = False

    def before(write: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        async def written(self: Changes, *arguments: Any) -> Any:
            nonlocal done
            if self is own and not done and arguments != ([],):
                done = True
                await meanwhile(desk)
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
    desk: Desk, monkeypatch: pytest.MonkeyPatch, chore: Step, replaced: dict[str, Any] | None
) -> None:
    other = await desk.start()
    seen = desk.task(
        "1",
        state=ACTIVE,
        nonce=NONCE,
        attempts=1,
        deadline=desk.now + SECOND,
        retry=RetryPolicy(max_attempts=1),
    )
    await desk.insert(seen)
    desk.now += SECOND

    async def meanwhile(desk: Desk) -> None:
        if replaced is None:
            await other.extend("1", NONCE, desk.now + MINUTE, desk.now)
            return
        new = {name: getattr(seen, name) for name in TaskRecord.__struct_fields__} | replaced
        if "deadline" in replaced:
            new["deadline"] += desk.now
        await other.upsert([TaskRecord(**new)], desk.now)

    interrupted(desk, monkeypatch, meanwhile)
    await chore(desk)
    task = await desk.get("1")
    if replaced is None or "deadline" in replaced:
        assert (task.state, task.nonce) == (ACTIVE, NONCE), members(task)
        assert task.deadline is not None
        assert task.deadline >= desk.now + MINUTE
    else:
        # Lapsed it has, but by the policy that it has now: it is no dead letter.
        await desk.engine.recover(desk.now)
        assert (await desk.get("1")).outcome == ""


@pytest.mark.parametrize("chore", [expire, poll, poll_for_many])
@pytest.mark.parametrize("expires", [HOUR, None])
async def test_an_expiry_leaves_what_was_acknowledged_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, chore: Step, expires: int | None
) -> None:
    other = await desk.start()
    await desk.add("1", expires=desk.now + SECOND)
    desk.now += SECOND

    async def meanwhile(desk: Desk) -> None:
        later = None if expires is None else desk.now + expires
        await other.upsert([desk.task("1", expires=later, scheduled=desk.now + MINUTE)], desk.now)

    interrupted(desk, monkeypatch, meanwhile)
    await chore(desk)
    assert (await desk.get("1")).state == PENDING
    desk.now += MINUTE
    assert (await desk.claim_one()).id == "1"


@pytest.mark.parametrize("several", [False, True])
async def test_a_failure_goes_by_the_policy_that_the_task_has_when_it_is_written(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, several: bool
) -> None:
    other = await desk.start()
    ids = ["1", "2"] if several else ["1"]
    one = RetryPolicy(max_attempts=1)
    await desk.insert(
        *(
            desk.task(n, state=ACTIVE, nonce=NONCE, attempts=1, deadline=desk.now + HOUR, retry=one)
            for n in ids
        )
    )

    async def meanwhile(desk: Desk) -> None:
        many = RetryPolicy(max_attempts=9, delay=SECOND, jitter=0.25)
        new = desk.task("1", state=ACTIVE, nonce=NONCE, attempts=1, deadline=desk.now + HOUR, retry=many)
        await other.upsert([new], desk.now)

    interrupted(desk, monkeypatch, meanwhile)
    await desk.engine.commit([CommitRecord(n, NONCE, error="boom") for n in ids], desk.now)
    assert (await desk.get("1")).state == PENDING
    if several:
        assert (await desk.get("2")).state == ARCHIVED


async def test_a_task_that_is_made_active_keeps_the_deadline_it_got_meanwhile(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await desk.start()
    await desk.add("1")

    async def meanwhile(desk: Desk) -> None:
        await other.upsert([desk.task("1", deadline=desk.now + HOUR)], desk.now)

    interrupted(desk, monkeypatch, meanwhile)
    await desk.commit("1", state=ACTIVE)
    assert (await desk.get("1")).deadline == desk.now + HOUR


async def test_a_forced_claim_does_not_count_an_expiry_that_was_put_off(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = await desk.start()
    await desk.add("1", expires=desk.now + SECOND, attempts=3)
    desk.now += SECOND

    async def meanwhile(desk: Desk) -> None:
        await other.upsert([desk.task("1", expires=desk.now + HOUR, attempts=3)], desk.now)

    interrupted(desk, monkeypatch, meanwhile)
    task = await desk.claim_task("1", force=True)
    assert task.attempts == 4  # a pending task goes on; only an archived one starts afresh


async def test_a_policy_is_the_same_in_whatever_order_another_program_wrote_it(desk: Desk) -> None:
    """Else its task would never lapse."""
    await desk.insert(desk.task("1", state=ACTIVE, nonce=NONCE, deadline=desk.now + SECOND))
    assert isinstance(desk.engine, MongodbEngine)
    await desk.engine._deployment.tasks.update_one(
        {"_id": "1"},
        {"$set": {"retry": {"jitter": 0, "max_attempts": 5, "backoff": "linear", "delay": None}}},
    )
    desk.now += SECOND
    assert await desk.engine.recover(desk.now) == 1


async def test_a_deadline_before_all_times_lapses(desk: Desk) -> None:
    """Another program may store a date that is read as the first time there is."""
    await desk.insert(desk.task("1", state=ACTIVE, nonce=NONCE, deadline=desk.now + SECOND))
    assert isinstance(desk.engine, MongodbEngine)
    first = DatetimeMS(-(10**15))
    await desk.engine._deployment.tasks.update_one({"_id": "1"}, {"$set": {"deadline": first}})
    assert await desk.engine.recover(desk.now) == 1
