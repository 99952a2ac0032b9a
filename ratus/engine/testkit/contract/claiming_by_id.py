"""Claiming a task by its id, keeping a claim, giving it back."""

from __future__ import annotations

import pytest

from ratus.core.errors import Conflict, NotFound
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, FAILED, PENDING
from ratus.core.transitions import DEADLINE_EXCEEDED
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, members


class ClaimingByIdTests(EngineTests):
    """Claiming a task by its id, keeping a claim, giving it back."""

    # ---- claim_task ------------------------------------------------------------------------------

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_pending_task_is_claimed_by_id(self, harness: Harness, force: bool) -> None:
        await harness.add("1", error="boom", attempts=2, consumer="old")
        harness.now += SECOND
        before = members(await harness.get("1"))
        task = await harness.claim_task("1", force=force, consumer="me", timeout=MINUTE)
        assert members(task) == {
            **before,
            "state": ACTIVE,
            "nonce": task.nonce,
            "consumer": "me",
            "consumed": harness.now,
            "deadline": harness.now + MINUTE,
            "attempts": 3,
        }
        assert len(task.nonce) == 16
        assert members(await harness.get("1")) == members(task)

    async def test_only_this_task_is_claimed(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        assert (await harness.claim_task("2")).id == "2"
        assert await harness.claim_ids() == ["1", "3"]

    @pytest.mark.parametrize("force", [False, True])
    async def test_a_claim_by_id_takes_a_task_due_or_not(self, harness: Harness, force: bool) -> None:
        await harness.add("1", scheduled=harness.now + HOUR)
        assert (await harness.claim_task("1", force=force)).scheduled == harness.now + HOUR

    async def test_a_claim_by_id_without_a_consumer_removes_the_old_one(self, harness: Harness) -> None:
        await harness.add("1", consumer="old")
        assert (await harness.claim_task("1")).consumer == ""
        assert (await harness.claim_task("1", force=True, consumer="me")).consumer == "me"
        assert (await harness.claim_task("1", force=True)).consumer == ""

    @pytest.mark.parametrize("force", [False, True])
    async def test_an_unknown_task_cannot_be_claimed(self, harness: Harness, force: bool) -> None:
        with pytest.raises(NotFound):
            await harness.claim_task("1", force=force)

    @pytest.mark.parametrize("state", [ACTIVE, COMPLETED, ARCHIVED])
    async def test_a_claim_by_id_is_a_conflict_unless_the_task_is_pending(
        self, harness: Harness, state: int
    ) -> None:
        await harness.add("1", state=state, nonce="AAAABBBBCCCCDDDD", attempts=2)
        before = members(await harness.get("1"))
        with pytest.raises(Conflict):
            await harness.claim_task("1")
        assert members(await harness.get("1")) == before

    async def test_force_over_an_active_task_counts_the_old_claim_as_a_lapse(self, harness: Harness) -> None:
        await harness.add("1")
        old = await harness.claim_one()
        task = await harness.claim_task("1", force=True)
        assert (task.attempts, task.error, task.outcome) == (2, DEADLINE_EXCEEDED, "")
        assert task.nonce != old.nonce
        with pytest.raises(Conflict):
            await harness.commit("1", old.nonce)

    async def test_force_over_a_task_made_active_without_a_deadline(self, harness: Harness) -> None:
        await harness.add("1", state=ACTIVE)
        task = await harness.claim_task("1", force=True, timeout=SECOND)
        assert (task.deadline, task.implied) == (harness.now + SECOND, False)

    @pytest.mark.parametrize("state", [COMPLETED, ARCHIVED])
    async def test_a_forced_claim_revives(self, harness: Harness, state: int) -> None:
        await harness.add(
            "1", state=state, attempts=7, error="boom", outcome=FAILED, result=b"[2]", payload=b"[1]"
        )
        task = await harness.claim_task("1", force=True)
        assert (task.state, task.attempts, task.error, task.outcome) == (ACTIVE, 1, "", "")
        assert (task.result, task.payload) == (b"[2]", b"[1]")
        assert (await harness.info()).counts == (0, 1, 0, 0)
        assert await harness.engine.purge(harness.now + HOUR) == 0

    async def test_a_paused_topics_task_can_be_claimed_by_id(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.engine.set_paused("t", True)
        assert (await harness.claim_task("1")).state == ACTIVE

    async def test_an_expired_task_is_not_handed_out_by_id_either(self, harness: Harness) -> None:
        await harness.add("1", expires=harness.now + SECOND)
        harness.now += SECOND
        before = members(await harness.get("1"))
        with pytest.raises(Conflict):
            await harness.claim_task("1")
        assert members(await harness.get("1")) == before
        await harness.engine.expire(harness.now)
        task = await harness.get("1")
        assert (task.state, task.outcome, task.attempts) == (ARCHIVED, EXPIRED, 0)

    async def test_force_revives_an_expired_task_whether_it_was_archived_or_not(
        self, harness: Harness
    ) -> None:
        await harness.add("1", "2", expires=harness.now + SECOND, attempts=2, error="boom")
        harness.now += SECOND
        one = await harness.claim_task("1", force=True)
        await harness.engine.expire(harness.now)
        two = await harness.claim_task("2", force=True)
        for task in (one, two):
            assert (task.state, task.attempts, task.error, task.outcome) == (ACTIVE, 1, "", "")

    # ---- extend ----------------------------------------------------------------------------------

    async def test_a_claim_is_extended(self, harness: Harness) -> None:
        await harness.add("1")
        task = await harness.claim_one(timeout=SECOND)
        longer = await harness.engine.extend("1", task.nonce, harness.now + HOUR, harness.now)
        assert members(longer) == {**members(task), "deadline": harness.now + HOUR}
        harness.now += MINUTE
        assert await harness.claim() == []
        assert (await harness.commit("1", task.nonce)).state == COMPLETED

    async def test_a_claim_can_be_made_shorter(self, harness: Harness) -> None:
        await harness.add("1")
        task = await harness.claim_one(timeout=HOUR)
        await harness.engine.extend("1", task.nonce, harness.now + SECOND, harness.now)
        harness.now += SECOND
        assert await harness.claim_ids() == ["1"]

    async def test_a_lapsed_claim_can_be_extended_until_it_is_taken_back(self, harness: Harness) -> None:
        await harness.add("1", "2")
        one, two = await harness.claim(limit=2, timeout=SECOND)
        harness.now += MINUTE
        await harness.engine.extend("1", one.nonce, harness.now + HOUR, harness.now)
        assert await harness.engine.recover(harness.now) == 1
        with pytest.raises(Conflict):
            await harness.engine.extend("2", two.nonce, harness.now + HOUR, harness.now)

    async def test_extending_is_forced_without_a_nonce(self, harness: Harness) -> None:
        await harness.add("1", state=ACTIVE)
        task = await harness.engine.extend("1", "", harness.now + HOUR, harness.now)
        assert (task.deadline, task.implied) == (harness.now + HOUR, False)

    async def test_extending_what_is_gone(self, harness: Harness) -> None:
        with pytest.raises(NotFound):
            await harness.engine.extend("1", "AAAABBBBCCCCDDDD", harness.now + HOUR, harness.now)

    @pytest.mark.parametrize(
        ("state", "nonce"),
        [
            (ACTIVE, "wrong"),
            *((state, nonce) for state in (PENDING, COMPLETED, ARCHIVED) for nonce in ("", "right", "wrong")),
        ],
    )
    async def test_extending_needs_the_running_claim(self, harness: Harness, state: int, nonce: str) -> None:
        await harness.add("1", state=state, nonce="right")
        before = members(await harness.get("1"))
        with pytest.raises(Conflict):
            await harness.engine.extend("1", nonce, harness.now + HOUR, harness.now)
        assert members(await harness.get("1")) == before

    # ---- release ---------------------------------------------------------------------------------

    @pytest.mark.parametrize("named", [False, True])
    async def test_a_released_task_is_as_before_but_for_the_trace_of_the_claim(
        self, harness: Harness, named: bool
    ) -> None:
        await harness.add("1", attempts=2, error="boom", payload=b"[1]")
        claimed = (await harness.claim(consumer="me"))[0]
        harness.now += SECOND
        assert await harness.engine.release("1", harness.now, claimed.nonce if named else None) is True
        task = await harness.get("1")
        assert members(task) == {**members(claimed), "state": PENDING, "nonce": "", "attempts": 2}
        assert (task.consumer, task.consumed, task.error) == ("me", claimed.consumed, "boom")
        assert await harness.claim_ids() == ["1"]

    async def test_only_that_very_claim_is_released(self, harness: Harness) -> None:
        await harness.add("1")
        old = await harness.claim_one()
        await harness.engine.release("1", harness.now, old.nonce)
        new = await harness.claim_one()
        assert await harness.engine.release("1", harness.now, old.nonce) is False
        assert members(await harness.get("1")) == members(new)
        assert await harness.engine.release("1", harness.now, "") is False
        assert await harness.engine.release("1", harness.now) is True

    async def test_attempts_never_fall_below_zero(self, harness: Harness) -> None:
        await harness.add("1", state=ACTIVE, attempts=0)
        await harness.engine.release("1", harness.now)
        assert (await harness.get("1")).attempts == 0

    @pytest.mark.parametrize("state", [PENDING, COMPLETED, ARCHIVED])
    async def test_only_an_active_task_is_released(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state, attempts=3, committed=harness.now)
        before = members(await harness.get("1"))
        assert await harness.engine.release("1", harness.now) is False
        assert members(await harness.get("1")) == before

    async def test_releasing_what_is_gone(self, harness: Harness) -> None:
        assert await harness.engine.release("1", harness.now) is False

    async def test_all_claims_of_a_topic_are_released(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        await harness.add("4", topic="other")
        await harness.claim(limit=2)
        await harness.claim("other")
        assert await harness.engine.release_topic("t", harness.now) == 2
        assert await harness.engine.release_topic("t", harness.now) == 0
        assert await harness.engine.release_topic("missing", harness.now) == 0
        assert [(await harness.get(name)).attempts for name in "123"] == [0, 0, 0]
        assert (await harness.get("4")).state == ACTIVE
        assert await harness.claim_ids() == ["1", "2", "3"]

    async def test_very_many_claims_are_released(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1500)), state=ACTIVE, attempts=1)
        assert await harness.engine.release_topic("t", harness.now) == 1500
        assert (await harness.info()).counts == (1500, 0, 0, 0)
