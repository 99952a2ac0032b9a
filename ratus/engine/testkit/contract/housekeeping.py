"""The chores: lapsed claims, expired tasks, old completed ones."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

from ratus.core.errors import Conflict
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, PENDING, TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import DEADLINE_EXCEEDED
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MILLISECOND, MINUTE, SECOND, Harness, members


class HousekeepingTests(EngineTests):
    """The chores: lapsed claims, expired tasks, old completed ones."""

    async def test_chores_with_nothing_to_do(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        await harness.claim()
        await harness.commit("2", state=ARCHIVED)
        assert await harness.engine.recover(harness.now) == 0
        assert await harness.engine.expire(harness.now) == 0
        assert await harness.engine.purge(harness.now) == 0
        await harness.engine.maintain(harness.now)
        assert (await harness.info()).counts == (1, 1, 0, 1)

    async def test_recover_takes_back_what_is_over(self, harness: Harness) -> None:
        for number in (1, 2, 3):
            await harness.add(str(number), topic=f"t{number}", payload=b"[1]")
            await harness.claim(f"t{number}", timeout=number * SECOND, consumer="me")
        before = await harness.get("1")
        harness.now += 2 * SECOND - MILLISECOND
        assert await harness.engine.recover(harness.now) == 1
        harness.now += MILLISECOND
        assert await harness.engine.recover(harness.now) == 1
        assert await harness.engine.recover(harness.now) == 0
        assert members(await harness.get("1")) == {
            **members(before),
            "state": PENDING,
            "nonce": "",
            "error": DEADLINE_EXCEEDED,
        }
        assert (await harness.get("3")).state == ACTIVE

    async def test_recover_leaves_everything_but_active_tasks(self, harness: Harness) -> None:
        for state in (PENDING, COMPLETED, ARCHIVED):
            await harness.add(str(state), state=state, deadline=harness.now - HOUR)
        assert await harness.engine.recover(harness.now) == 0

    async def test_very_many_lapsed_claims_are_taken_back(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1500)))
        await harness.claim(limit=1500, timeout=SECOND)
        harness.now += SECOND
        assert await harness.engine.recover(harness.now) == 1500
        assert (await harness.info()).counts == (1500, 0, 0, 0)

    @pytest.mark.parametrize("chore", ["recover", "claim"])
    async def test_an_extension_that_was_acknowledged_is_never_taken_back(
        self, harness: Harness, chore: str
    ) -> None:
        """The deadline has passed, and claims are extended while another server takes them back."""
        other = await harness.start() if harness.engine.traits.shared else harness.engine
        await harness.add(*map(str, range(60)))
        claimed = await harness.claim(limit=60, timeout=SECOND)
        harness.now += SECOND
        later = harness.now + HOUR

        async def take_back() -> None:
            if chore == "recover":
                await other.recover(harness.now)
            else:
                await other.claim(Selection(("t",), later, "other", 1), harness.now)

        answers = await asyncio.gather(
            *(harness.engine.extend(task.id, task.nonce, later, harness.now) for task in claimed[:30]),
            take_back(),
            *(harness.engine.extend(task.id, task.nonce, later, harness.now) for task in claimed[30:]),
            return_exceptions=True,
        )
        for answer in answers:
            assert answer is None or isinstance(answer, TaskRecord | Conflict), answer
        await other.recover(harness.now)
        for task, answer in zip(claimed, [*answers[:30], *answers[31:]], strict=True):
            now = await harness.get(task.id)
            if isinstance(answer, Conflict):
                assert now.nonce != task.nonce
            else:
                assert (now.state, now.nonce, now.deadline) == (ACTIVE, task.nonce, later)

    @pytest.mark.parametrize("chore", ["expire", "claim"])
    async def test_a_replacement_that_was_acknowledged_does_not_expire(
        self, harness: Harness, chore: str
    ) -> None:
        """Tasks that have expired are replaced by ones that have not, while the expired ones are archived."""
        other = await harness.start() if harness.engine.traits.shared else harness.engine
        ids = [str(number) for number in range(60)]
        await harness.add(*ids, expires=harness.now + SECOND)
        harness.now += SECOND

        async def archive() -> None:
            if chore == "expire":
                await other.expire(harness.now)
            else:
                await other.claim(Selection(("t",), harness.now + HOUR, "other", 1), harness.now)

        def put(task_id: str) -> Awaitable[object]:
            return harness.upsert(
                harness.task(task_id, scheduled=harness.now + MINUTE, expires=harness.now + HOUR)
            )

        await asyncio.gather(*map(put, ids[:30]), archive(), *map(put, ids[30:]))
        await other.expire(harness.now)
        assert (await harness.info()).counts == (60, 0, 0, 0)

    async def test_expire_archives_what_was_not_claimed_in_time(self, harness: Harness) -> None:
        await harness.add("1", expires=harness.now + SECOND, attempts=2, error="boom", payload=b"[1]")
        await harness.add("2", expires=harness.now + MINUTE)
        await harness.add("3")
        await harness.add("4", topic="other", expires=harness.now, scheduled=harness.now + HOUR)
        before = await harness.get("1")
        harness.now += SECOND - MILLISECOND
        assert await harness.engine.expire(harness.now) == 1
        harness.now += MILLISECOND
        assert await harness.engine.expire(harness.now) == 1
        assert await harness.engine.expire(harness.now) == 0
        assert members(await harness.get("1")) == {**members(before), "state": ARCHIVED, "outcome": EXPIRED}
        assert await harness.ids(outcome=EXPIRED) == ["1"]
        assert await harness.ids("other", outcome=EXPIRED) == ["4"]

    async def test_only_pending_tasks_expire(self, harness: Harness) -> None:
        for state in (ACTIVE, COMPLETED, ARCHIVED):
            await harness.add(str(state), state=state, expires=harness.now - HOUR)
        assert await harness.engine.expire(harness.now) == 0

    async def test_a_claimed_task_may_be_finished_after_it_expired(self, harness: Harness) -> None:
        await harness.add("1", expires=harness.now + SECOND)
        claimed = await harness.claim_one()
        harness.now += MINUTE
        assert await harness.engine.expire(harness.now) == 0
        assert (await harness.commit("1", claimed.nonce)).state == COMPLETED

    @pytest.mark.parametrize("how", ["released", "failed", "lapsed"])
    async def test_a_claimed_task_that_comes_back_too_late_expires(self, harness: Harness, how: str) -> None:
        await harness.add("1", expires=harness.now + SECOND)
        claimed = await harness.claim_one(timeout=SECOND)
        harness.now += MINUTE
        if how == "released":
            await harness.engine.release("1", harness.now)
        elif how == "failed":
            await harness.fail("1", claimed.nonce, scheduled=harness.now)
        assert await harness.claim() == []
        await harness.engine.expire(harness.now)
        task = await harness.get("1")
        assert (task.state, task.outcome) == (ARCHIVED, EXPIRED)

    async def test_an_expired_task_can_be_revived_with_a_put(self, harness: Harness) -> None:
        await harness.add("1", expires=harness.now)
        await harness.engine.expire(harness.now)
        await harness.upsert(harness.task("1", expires=harness.now + SECOND))
        assert await harness.claim_ids() == ["1"]

    async def test_very_many_expired_tasks_are_archived(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1500)), expires=harness.now)
        assert await harness.engine.expire(harness.now) == 1500
        assert (await harness.info()).counts == (0, 0, 0, 1500)

    async def test_purge_counts_from_the_commit(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        await harness.claim(limit=3)
        for name in "123":
            harness.now += SECOND
            await harness.commit(name)
        assert await harness.engine.purge(harness.now - 2 * SECOND - MILLISECOND) == 0
        assert await harness.engine.purge(harness.now - SECOND) == 2
        assert await harness.ids() == ["3"]

    async def test_purge_leaves_everything_but_completed_tasks(self, harness: Harness) -> None:
        for state in (PENDING, ACTIVE, ARCHIVED):
            await harness.add(str(state), state=state, committed=harness.now - HOUR)
        assert await harness.engine.purge(harness.now) == 0

    async def test_a_completed_task_is_purged_by_its_last_commit(self, harness: Harness) -> None:
        await harness.add("1", state=COMPLETED, committed=harness.now - HOUR)
        await harness.commit("1", payload=b"[1]")
        assert await harness.engine.purge(harness.now - SECOND) == 0
        assert await harness.engine.purge(harness.now) == 1

    async def test_very_many_old_tasks_are_purged(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1500)), state=COMPLETED, committed=harness.now)
        assert await harness.engine.purge(harness.now) == 1500
        assert await harness.topics() == []
