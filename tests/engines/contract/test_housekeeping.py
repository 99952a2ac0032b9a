"""The chores: lapsed claims, expired tasks, old completed ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from ratus.core.errors import Conflict
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, PENDING, Claim, TaskRecord
from ratus.core.transitions import DEADLINE_EXCEEDED
from tests.engines.contract.desk import HOUR, MILLISECOND, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio


async def test_nothing_to_do(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.claim()
    await desk.commit("2", state=ARCHIVED)
    assert await desk.engine.recover(desk.now) == 0
    assert await desk.engine.expire(desk.now) == 0
    assert await desk.engine.purge(desk.now) == 0
    await desk.engine.maintain(desk.now)
    assert (await desk.info()).counts == (1, 1, 0, 1)


async def test_recover_takes_back_what_is_over(desk: Desk) -> None:
    for number in (1, 2, 3):
        await desk.add(str(number), topic=f"t{number}", payload=b"[1]")
        await desk.claim(f"t{number}", timeout=number * SECOND, consumer="me")
    before = await desk.get("1")
    desk.now += 2 * SECOND - MILLISECOND
    assert await desk.engine.recover(desk.now) == 1
    desk.now += MILLISECOND
    assert await desk.engine.recover(desk.now) == 1
    assert await desk.engine.recover(desk.now) == 0
    assert members(await desk.get("1")) == {
        **members(before),
        "state": PENDING,
        "nonce": "",
        "error": DEADLINE_EXCEEDED,
    }
    assert (await desk.get("3")).state == ACTIVE


async def test_recover_leaves_everything_but_active_tasks(desk: Desk) -> None:
    for state in (PENDING, COMPLETED, ARCHIVED):
        await desk.add(str(state), state=state, deadline=desk.now - HOUR)
    assert await desk.engine.recover(desk.now) == 0


async def test_very_many_lapsed_claims(desk: Desk) -> None:
    await desk.add(*map(str, range(1500)))
    await desk.claim(limit=1500, timeout=SECOND)
    desk.now += SECOND
    assert await desk.engine.recover(desk.now) == 1500
    assert (await desk.info()).counts == (1500, 0, 0, 0)


@pytest.mark.parametrize("chore", ["recover", "claim"])
async def test_an_extension_that_was_acknowledged_is_never_taken_back(desk: Desk, chore: str) -> None:
    """The deadline has passed, and claims are extended while they are being taken back, by two servers."""
    other = await desk.start() if desk.engine.traits.shared else desk.engine
    await desk.add(*map(str, range(60)))
    claimed = await desk.claim(limit=60, timeout=SECOND)
    desk.now += SECOND
    later = desk.now + HOUR

    async def take_back() -> None:
        if chore == "recover":
            await other.recover(desk.now)
        else:
            await other.claim(Claim(("t",), later, "other", 1), desk.now)

    answers = await asyncio.gather(
        *(desk.engine.extend(task.id, task.nonce, later, desk.now) for task in claimed[:30]),
        take_back(),
        *(desk.engine.extend(task.id, task.nonce, later, desk.now) for task in claimed[30:]),
        return_exceptions=True,
    )
    for answer in answers:
        assert answer is None or isinstance(answer, TaskRecord | Conflict), answer
    await other.recover(desk.now)
    for task, answer in zip(claimed, [*answers[:30], *answers[31:]], strict=True):
        now = await desk.get(task.id)
        if isinstance(answer, Conflict):
            assert now.nonce != task.nonce
        else:
            assert (now.state, now.nonce, now.deadline) == (ACTIVE, task.nonce, later)


@pytest.mark.parametrize("chore", ["expire", "claim"])
async def test_a_replacement_that_was_acknowledged_does_not_expire(desk: Desk, chore: str) -> None:
    """Tasks that have expired are replaced by ones that have not, while the expired ones are archived."""
    other = await desk.start() if desk.engine.traits.shared else desk.engine
    ids = [str(number) for number in range(60)]
    await desk.add(*ids, expires=desk.now + SECOND)
    desk.now += SECOND

    async def archive() -> None:
        if chore == "expire":
            await other.expire(desk.now)
        else:
            await other.claim(Claim(("t",), desk.now + HOUR, "other", 1), desk.now)

    def put(task_id: str) -> Awaitable[object]:
        return desk.upsert(desk.task(task_id, scheduled=desk.now + MINUTE, expires=desk.now + HOUR))

    await asyncio.gather(*map(put, ids[:30]), archive(), *map(put, ids[30:]))
    await other.expire(desk.now)
    assert (await desk.info()).counts == (60, 0, 0, 0)


async def test_expire_archives_what_was_not_claimed_in_time(desk: Desk) -> None:
    await desk.add("1", expires=desk.now + SECOND, attempts=2, error="boom", payload=b"[1]")
    await desk.add("2", expires=desk.now + MINUTE)
    await desk.add("3")
    await desk.add("4", topic="other", expires=desk.now, scheduled=desk.now + HOUR)
    before = await desk.get("1")
    desk.now += SECOND - MILLISECOND
    assert await desk.engine.expire(desk.now) == 1
    desk.now += MILLISECOND
    assert await desk.engine.expire(desk.now) == 1
    assert await desk.engine.expire(desk.now) == 0
    assert members(await desk.get("1")) == {**members(before), "state": ARCHIVED, "outcome": EXPIRED}
    assert await desk.ids(outcome=EXPIRED) == ["1"]
    assert await desk.ids("other", outcome=EXPIRED) == ["4"]


async def test_only_pending_tasks_expire(desk: Desk) -> None:
    for state in (ACTIVE, COMPLETED, ARCHIVED):
        await desk.add(str(state), state=state, expires=desk.now - HOUR)
    assert await desk.engine.expire(desk.now) == 0


async def test_a_claimed_task_may_be_finished_after_it_expired(desk: Desk) -> None:
    await desk.add("1", expires=desk.now + SECOND)
    claimed = await desk.claim_one()
    desk.now += MINUTE
    assert await desk.engine.expire(desk.now) == 0
    assert (await desk.commit("1", claimed.nonce)).state == COMPLETED


@pytest.mark.parametrize("how", ["released", "failed", "lapsed"])
async def test_a_claimed_task_that_comes_back_too_late_expires(desk: Desk, how: str) -> None:
    await desk.add("1", expires=desk.now + SECOND)
    claimed = await desk.claim_one(timeout=SECOND)
    desk.now += MINUTE
    if how == "released":
        await desk.engine.release("1", desk.now)
    elif how == "failed":
        await desk.fail("1", claimed.nonce, scheduled=desk.now)
    assert await desk.claim() == []
    await desk.engine.expire(desk.now)
    task = await desk.get("1")
    assert (task.state, task.outcome) == (ARCHIVED, EXPIRED)


async def test_an_expired_task_can_be_revived_with_a_put(desk: Desk) -> None:
    await desk.add("1", expires=desk.now)
    await desk.engine.expire(desk.now)
    await desk.upsert(desk.task("1", expires=desk.now + SECOND))
    assert await desk.claim_ids() == ["1"]


async def test_very_many_expired_tasks(desk: Desk) -> None:
    await desk.add(*map(str, range(1500)), expires=desk.now)
    assert await desk.engine.expire(desk.now) == 1500
    assert (await desk.info()).counts == (0, 0, 0, 1500)


async def test_purge_counts_from_the_commit(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.claim(limit=3)
    for name in "123":
        desk.now += SECOND
        await desk.commit(name)
    assert await desk.engine.purge(desk.now - 2 * SECOND - MILLISECOND) == 0
    assert await desk.engine.purge(desk.now - SECOND) == 2
    assert await desk.ids() == ["3"]


async def test_purge_leaves_everything_but_completed_tasks(desk: Desk) -> None:
    for state in (PENDING, ACTIVE, ARCHIVED):
        await desk.add(str(state), state=state, committed=desk.now - HOUR)
    assert await desk.engine.purge(desk.now) == 0


async def test_a_completed_task_is_purged_by_its_last_commit(desk: Desk) -> None:
    await desk.add("1", state=COMPLETED, committed=desk.now - HOUR)
    await desk.commit("1", payload=b"[1]")
    assert await desk.engine.purge(desk.now - SECOND) == 0
    assert await desk.engine.purge(desk.now) == 1


async def test_very_many_old_tasks(desk: Desk) -> None:
    await desk.add(*map(str, range(1500)), state=COMPLETED, committed=desk.now)
    assert await desk.engine.purge(desk.now) == 1500
    assert await desk.topics() == []
