"""Claiming a task by its id, keeping a claim, giving it back."""

from __future__ import annotations

import pytest

from ratus.core.errors import Conflict, NotFound
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, FAILED, PENDING
from ratus.core.transitions import DEADLINE_EXCEEDED
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio

# ---- claim_task ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("force", [False, True])
async def test_a_pending_task_is_claimed(desk: Desk, force: bool) -> None:
    await desk.add("1", error="boom", attempts=2, consumer="old")
    desk.now += SECOND
    before = members(await desk.get("1"))
    task = await desk.claim_task("1", force=force, consumer="me", timeout=MINUTE)
    assert members(task) == {
        **before,
        "state": ACTIVE,
        "nonce": task.nonce,
        "consumer": "me",
        "consumed": desk.now,
        "deadline": desk.now + MINUTE,
        "attempts": 3,
    }
    assert len(task.nonce) == 16
    assert members(await desk.get("1")) == members(task)


async def test_only_this_task_is_claimed(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    assert (await desk.claim_task("2")).id == "2"
    assert await desk.claim_ids() == ["1", "3"]


@pytest.mark.parametrize("force", [False, True])
async def test_due_or_not(desk: Desk, force: bool) -> None:
    await desk.add("1", scheduled=desk.now + HOUR)
    assert (await desk.claim_task("1", force=force)).scheduled == desk.now + HOUR


async def test_a_claim_without_a_consumer_removes_the_old_one(desk: Desk) -> None:
    await desk.add("1", consumer="old")
    assert (await desk.claim_task("1")).consumer == ""
    assert (await desk.claim_task("1", force=True, consumer="me")).consumer == "me"
    assert (await desk.claim_task("1", force=True)).consumer == ""


@pytest.mark.parametrize("force", [False, True])
async def test_an_unknown_task_cannot_be_claimed(desk: Desk, force: bool) -> None:
    with pytest.raises(NotFound):
        await desk.claim_task("1", force=force)


@pytest.mark.parametrize("state", [ACTIVE, COMPLETED, ARCHIVED])
async def test_a_conflict_unless_it_is_pending(desk: Desk, state: int) -> None:
    await desk.add("1", state=state, nonce="AAAABBBBCCCCDDDD", attempts=2)
    before = members(await desk.get("1"))
    with pytest.raises(Conflict):
        await desk.claim_task("1")
    assert members(await desk.get("1")) == before


async def test_force_over_an_active_task_counts_the_old_claim_as_a_lapse(desk: Desk) -> None:
    await desk.add("1")
    old = await desk.claim_one()
    task = await desk.claim_task("1", force=True)
    assert (task.attempts, task.error, task.outcome) == (2, DEADLINE_EXCEEDED, "")
    assert task.nonce != old.nonce
    with pytest.raises(Conflict):
        await desk.commit("1", old.nonce)


async def test_force_over_a_task_made_active_without_a_deadline(desk: Desk) -> None:
    await desk.add("1", state=ACTIVE)
    task = await desk.claim_task("1", force=True, timeout=SECOND)
    assert (task.deadline, task.implied) == (desk.now + SECOND, False)


@pytest.mark.parametrize("state", [COMPLETED, ARCHIVED])
async def test_force_revives(desk: Desk, state: int) -> None:
    await desk.add("1", state=state, attempts=7, error="boom", outcome=FAILED, result=b"[2]", payload=b"[1]")
    task = await desk.claim_task("1", force=True)
    assert (task.state, task.attempts, task.error, task.outcome) == (ACTIVE, 1, "", "")
    assert (task.result, task.payload) == (b"[2]", b"[1]")
    assert (await desk.info()).counts == (0, 1, 0, 0)
    assert await desk.engine.purge(desk.now + HOUR) == 0


async def test_a_paused_topics_task_can_be_claimed_by_id(desk: Desk) -> None:
    await desk.add("1")
    await desk.engine.set_paused("t", True)
    assert (await desk.claim_task("1")).state == ACTIVE


async def test_an_expired_task_is_not_handed_out_by_id_either(desk: Desk) -> None:
    await desk.add("1", expires=desk.now + SECOND)
    desk.now += SECOND
    with pytest.raises(Conflict):
        await desk.claim_task("1")
    await desk.engine.expire(desk.now)
    task = await desk.get("1")
    assert (task.state, task.outcome, task.attempts) == (ARCHIVED, EXPIRED, 0)


async def test_force_revives_an_expired_task_whether_it_was_archived_or_not(desk: Desk) -> None:
    await desk.add("1", "2", expires=desk.now + SECOND, attempts=2, error="boom")
    desk.now += SECOND
    one = await desk.claim_task("1", force=True)
    await desk.engine.expire(desk.now)
    two = await desk.claim_task("2", force=True)
    for task in (one, two):
        assert (task.state, task.attempts, task.error, task.outcome) == (ACTIVE, 1, "", "")


# ---- extend --------------------------------------------------------------------------------------------


async def test_a_claim_is_extended(desk: Desk) -> None:
    await desk.add("1")
    task = await desk.claim_one(timeout=SECOND)
    longer = await desk.engine.extend("1", task.nonce, desk.now + HOUR, desk.now)
    assert members(longer) == {**members(task), "deadline": desk.now + HOUR}
    desk.now += MINUTE
    assert await desk.claim() == []
    assert (await desk.commit("1", task.nonce)).state == COMPLETED


async def test_a_claim_can_be_made_shorter(desk: Desk) -> None:
    await desk.add("1")
    task = await desk.claim_one(timeout=HOUR)
    await desk.engine.extend("1", task.nonce, desk.now + SECOND, desk.now)
    desk.now += SECOND
    assert await desk.claim_ids() == ["1"]


async def test_a_lapsed_claim_can_be_extended_until_somebody_noticed(desk: Desk) -> None:
    await desk.add("1", "2")
    one, two = await desk.claim(limit=2, timeout=SECOND)
    desk.now += MINUTE
    await desk.engine.extend("1", one.nonce, desk.now + HOUR, desk.now)
    assert await desk.engine.recover(desk.now) == 1
    with pytest.raises(Conflict):
        await desk.engine.extend("2", two.nonce, desk.now + HOUR, desk.now)


async def test_extending_is_forced_without_a_nonce(desk: Desk) -> None:
    await desk.add("1", state=ACTIVE)
    task = await desk.engine.extend("1", "", desk.now + HOUR, desk.now)
    assert (task.deadline, task.implied) == (desk.now + HOUR, False)


async def test_extending_what_is_gone(desk: Desk) -> None:
    with pytest.raises(NotFound):
        await desk.engine.extend("1", "AAAABBBBCCCCDDDD", desk.now + HOUR, desk.now)


@pytest.mark.parametrize(
    ("state", "nonce"),
    [
        (ACTIVE, "wrong"),
        *((state, nonce) for state in (PENDING, COMPLETED, ARCHIVED) for nonce in ("", "right", "wrong")),
    ],
)
async def test_extending_needs_the_running_claim(desk: Desk, state: int, nonce: str) -> None:
    await desk.add("1", state=state, nonce="right")
    before = members(await desk.get("1"))
    with pytest.raises(Conflict):
        await desk.engine.extend("1", nonce, desk.now + HOUR, desk.now)
    assert members(await desk.get("1")) == before


# ---- release -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("named", [False, True])
async def test_a_released_task_is_as_before_but_for_the_trace_of_the_claim(desk: Desk, named: bool) -> None:
    await desk.add("1", attempts=2, error="boom", payload=b"[1]")
    claimed = (await desk.claim(consumer="me"))[0]
    desk.now += SECOND
    assert await desk.engine.release("1", desk.now, claimed.nonce if named else None) is True
    task = await desk.get("1")
    assert members(task) == {**members(claimed), "state": PENDING, "nonce": "", "attempts": 2}
    assert (task.consumer, task.consumed, task.error) == ("me", claimed.consumed, "boom")
    assert await desk.claim_ids() == ["1"]


async def test_only_that_very_claim_is_released(desk: Desk) -> None:
    await desk.add("1")
    old = await desk.claim_one()
    await desk.engine.release("1", desk.now, old.nonce)
    new = await desk.claim_one()
    assert await desk.engine.release("1", desk.now, old.nonce) is False
    assert members(await desk.get("1")) == members(new)
    assert await desk.engine.release("1", desk.now, "") is False
    assert await desk.engine.release("1", desk.now) is True


async def test_attempts_never_fall_below_zero(desk: Desk) -> None:
    await desk.add("1", state=ACTIVE, attempts=0)
    await desk.engine.release("1", desk.now)
    assert (await desk.get("1")).attempts == 0


@pytest.mark.parametrize("state", [PENDING, COMPLETED, ARCHIVED])
async def test_only_an_active_task_is_released(desk: Desk, state: int) -> None:
    await desk.add("1", state=state, attempts=3, committed=desk.now)
    before = members(await desk.get("1"))
    assert await desk.engine.release("1", desk.now) is False
    assert members(await desk.get("1")) == before


async def test_releasing_what_is_gone(desk: Desk) -> None:
    assert await desk.engine.release("1", desk.now) is False


async def test_all_claims_of_a_topic_are_released(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.add("4", topic="other")
    await desk.claim(limit=2)
    await desk.claim("other")
    assert await desk.engine.release_topic("t", desk.now) == 2
    assert await desk.engine.release_topic("t", desk.now) == 0
    assert await desk.engine.release_topic("missing", desk.now) == 0
    assert [(await desk.get(name)).attempts for name in "123"] == [0, 0, 0]
    assert (await desk.get("4")).state == ACTIVE
    assert await desk.claim_ids() == ["1", "2", "3"]


async def test_very_many_claims_are_released(desk: Desk) -> None:
    await desk.add(*map(str, range(1500)), state=ACTIVE, attempts=1)
    assert await desk.engine.release_topic("t", desk.now) == 1500
    assert (await desk.info()).counts == (1500, 0, 0, 0)
