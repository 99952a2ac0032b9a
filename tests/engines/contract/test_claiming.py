"""Claim: due tasks of these topics only, in the order of claiming, each to one consumer."""

from __future__ import annotations

import asyncio
import copy
import string

import pytest

from ratus.core.errors import RatusError
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, MAX_PAGE_BYTES, PENDING, Claim
from ratus.core.transitions import DEADLINE_EXCEEDED
from ratus.engine import CLAIM_CHORES
from tests.engines.contract.desk import HOUR, MILLISECOND, MINUTE, SECOND, Desk, members

pytestmark = pytest.mark.anyio

LETTERS = set(string.ascii_letters + string.digits)


async def test_a_claim_hands_the_task_out(desk: Desk) -> None:
    await desk.add("1", consumer="old", payload=b"[1]")
    before = await desk.get("1")
    desk.now += SECOND
    (task,) = await desk.claim(consumer="me", timeout=30 * SECOND)
    assert members(task) == {
        **members(before),
        "state": ACTIVE,
        "nonce": task.nonce,
        "consumer": "me",
        "consumed": desk.now,
        "deadline": desk.now + 30 * SECOND,
        "attempts": 1,
    }
    assert len(task.nonce) == 16
    assert set(task.nonce) <= LETTERS
    assert members(await desk.get("1")) == members(task)


async def test_a_claim_without_a_consumer_removes_the_old_one(desk: Desk) -> None:
    await desk.add("1", consumer="old")
    assert (await desk.claim_one()).consumer == ""


async def test_nothing_is_due(desk: Desk) -> None:
    assert await desk.claim() == []
    assert await desk.topics() == []


@pytest.mark.parametrize("state", [ACTIVE, COMPLETED, ARCHIVED])
async def test_only_pending_tasks_are_claimed(desk: Desk, state: int) -> None:
    await desk.add("1", state=state, deadline=desk.now + HOUR, committed=desk.now)
    assert await desk.claim() == []


async def test_each_claim_has_a_nonce_of_its_own(desk: Desk) -> None:
    await desk.add(*map(str, range(200)))
    nonces = {task.nonce for task in await desk.claim(limit=200)}
    assert len(nonces) == 200


async def test_not_before_it_is_scheduled(desk: Desk) -> None:
    await desk.add("1", scheduled=desk.now + SECOND)
    assert await desk.claim() == []
    desk.now += SECOND - MILLISECOND
    assert await desk.claim() == []
    desk.now += MILLISECOND
    assert await desk.claim_ids() == ["1"]


async def test_times_before_1970_are_due(desk: Desk) -> None:
    await desk.add("1", scheduled=-HOUR)
    await desk.add("2", state=ACTIVE, deadline=-2 * HOUR, scheduled=-2 * HOUR)
    assert await desk.claim_ids() == ["2", "1"]


async def test_larger_priorities_come_first(desk: Desk) -> None:
    for priority in (0, -9, 9, -1, 1, 5, -5):
        await desk.add(str(priority), priority=priority)
    assert await desk.claim_ids() == ["9", "5", "1", "0", "-1", "-5", "-9"]


async def test_priority_then_schedule_then_creation(desk: Desk) -> None:
    await desk.add("low, early", priority=-1, scheduled=desk.now - HOUR)
    await desk.add("late", scheduled=desk.now)
    await desk.add("later", scheduled=desk.now)
    await desk.add("early", scheduled=desk.now - SECOND)
    await desk.add("high, late", priority=1, scheduled=desk.now)
    await desk.add("earlier", scheduled=desk.now - MINUTE)
    await desk.add("high, not due", priority=9, scheduled=desk.now + SECOND)
    assert await desk.claim_ids() == ["high, late", "earlier", "early", "late", "later", "low, early"]


async def test_one_that_falls_due_takes_its_place(desk: Desk) -> None:
    await desk.add("high", priority=1, scheduled=desk.now + SECOND)
    await desk.add("low", "low too", "and low", scheduled=desk.now)
    assert await desk.claim_ids(limit=1) == ["low"]
    desk.now += SECOND
    assert await desk.claim_ids(limit=2) == ["high", "low too"]


async def test_first_in_first_out(desk: Desk) -> None:
    ids = [str(number * 7919 % 1009) for number in range(100)]
    await desk.add(*ids[:50])
    for name in ids[50:]:
        await desk.add(name)
    assert await desk.claim_ids(limit=60) == ids[:60]
    assert await desk.claim_ids(limit=60) == ids[60:]


async def test_the_order_of_creation_is_kept_through_everything_but_deletion(desk: Desk) -> None:
    ids = ["e", "d", "c", "b", "a", "f"]
    await desk.add(*ids)
    await desk.upsert(desk.task("d"), desk.task("e"))  # replaced
    c = await desk.claim_task("c")
    await desk.engine.release("c", desk.now, c.nonce)  # released
    b = await desk.claim_task("b")
    await desk.commit("b", b.nonce, state=PENDING)  # given back
    await desk.commit("a", topic="other", state=PENDING)  # moved away ...
    await desk.commit("a", topic="t", state=PENDING)  # ... and back
    await desk.commit("d")  # completed and revived
    await desk.commit("d", state=PENDING)
    await desk.claim_task("e", timeout=SECOND)  # lapsed
    await desk.engine.recover(desk.now + SECOND)
    desk.now += SECOND
    await desk.reopen()
    assert await desk.claim_ids() == ids


async def test_a_task_that_comes_again_is_a_new_one(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.engine.delete_task("1")
    await desk.add("1", scheduled=desk.now)
    assert await desk.claim_ids() == ["2", "3", "1"]


async def test_a_task_moved_to_another_topic_keeps_its_place(desk: Desk) -> None:
    await desk.add("1", topic="a")
    await desk.add("2", topic="b")
    await desk.add("3", topic="a")
    await desk.commit("1", topic="b", state=PENDING)
    await desk.commit("3", topic="b", state=PENDING)
    assert await desk.claim_ids("b") == ["1", "2", "3"]


async def test_never_another_topics_task(desk: Desk) -> None:
    await desk.add("1", topic="other", priority=9, scheduled=desk.now - HOUR)
    for topic in ("t", "othe", "other2", "OTHER", ""):
        assert await desk.claim(topic) == []
    await desk.add("2")
    assert await desk.claim_ids() == ["2"]
    assert (await desk.get("1")).state == PENDING


async def test_never_another_topics_lapsed_task(desk: Desk) -> None:
    await desk.add("1", topic="other")
    await desk.claim("other", timeout=SECOND)
    desk.now += HOUR
    assert await desk.claim() == []
    assert await desk.claim_ids("other") == ["1"]


async def test_topics_in_order_of_preference(desk: Desk) -> None:
    await desk.add("b1", "b2", topic="b", priority=9)
    await desk.add("a1", topic="a", priority=-9)
    await desk.add("c1", topic="c", scheduled=desk.now - HOUR)
    assert await desk.claim_ids("a", "b", limit=2) == ["a1", "b1"]
    assert await desk.claim_ids("a", "c", "missing", "b") == ["c1", "b2"]


async def test_the_same_topic_twice_is_that_topic(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    assert await desk.claim_ids("t", "t") == ["1", "2", "3"]


async def test_a_lapsed_claim_in_a_topic_further_down_is_taken_back(desk: Desk) -> None:
    await desk.add("1", topic="b")
    await desk.claim("b", timeout=SECOND)
    desk.now += SECOND
    assert await desk.claim_ids("a", "b") == ["1"]


async def test_no_more_than_the_limit(desk: Desk) -> None:
    await desk.add(*map(str, range(10)))
    assert len(await desk.claim(limit=3)) == 3
    assert (await desk.info()).counts == (7, 3, 0, 0)
    assert len(await desk.claim(limit=100)) == 7
    assert await desk.claim(limit=100) == []


async def test_many_at_once_share_time_and_consumer(desk: Desk) -> None:
    await desk.add("1", "2")
    for task in await desk.claim(limit=2, consumer="me", timeout=MINUTE):
        assert (task.consumer, task.consumed, task.deadline) == ("me", desk.now, desk.now + MINUTE)
        assert members(await desk.get(task.id)) == members(task)


async def test_a_paused_topic_gives_nothing(desk: Desk) -> None:
    await desk.add("1")
    await desk.add("2", topic="other")
    await desk.engine.set_paused("t", True)
    assert await desk.claim() == []
    assert await desk.claim_ids("t", "other") == ["2"]
    await desk.engine.set_paused("t", False)
    assert await desk.claim_ids() == ["1"]


async def test_lapsed_claims_are_taken_back_first(desk: Desk) -> None:
    await desk.add("old", priority=1)
    await desk.add("new")
    old = await desk.claim_one(timeout=SECOND)
    assert old.id == "old"
    desk.now += SECOND
    again = await desk.claim_one()
    assert (again.id, again.attempts, again.error) == ("old", 2, DEADLINE_EXCEEDED)
    assert again.nonce != old.nonce


async def test_a_claim_is_kept_until_its_deadline(desk: Desk) -> None:
    await desk.add("1")
    await desk.claim(timeout=SECOND)
    desk.now += SECOND - MILLISECOND
    assert await desk.claim() == []
    desk.now += MILLISECOND
    assert await desk.claim_ids() == ["1"]


async def test_an_expired_task_is_never_handed_out(desk: Desk) -> None:
    await desk.add("1", expires=desk.now + SECOND)
    await desk.add("2", scheduled=desk.now + SECOND)
    desk.now += SECOND
    assert await desk.claim_ids() == ["2"]
    await desk.engine.expire(desk.now)
    task = await desk.get("1")
    assert (task.state, task.outcome) == (ARCHIVED, EXPIRED)


async def test_one_poll_does_not_pay_for_every_lapsed_claim(desk: Desk) -> None:
    count = CLAIM_CHORES + 500
    await desk.add(*map(str, range(count)), state=ACTIVE, deadline=desk.now)
    await desk.add("due", priority=1)
    assert await desk.claim_ids(limit=1) == ["due"]
    assert await desk.engine.recover(desk.now) >= 500


async def test_a_due_task_behind_many_expired_ones_is_reached(desk: Desk) -> None:
    count = CLAIM_CHORES + 500
    await desk.add(*map(str, range(count)), priority=1, expires=desk.now)
    await desk.add("due")
    assert await desk.claim_ids(limit=1) == ["due"]


async def test_where_everything_has_expired_nothing_is_due(desk: Desk) -> None:
    await desk.add(*map(str, range(CLAIM_CHORES + 500)), expires=desk.now)
    assert await desk.claim_ids() == []


async def test_an_answer_ends_early_when_it_grows_too_large(desk: Desk) -> None:
    size = 3 * 1024 * 1024
    payload = b'"' + b"x" * (size - 2) + b'"'
    ids = [str(number) for number in range(7)]
    for name in ids:
        await desk.add(name, payload=payload)
    first = await desk.claim_ids(limit=7)
    assert 1 <= len(first) <= MAX_PAGE_BYTES // size
    assert first == ids[: len(first)]
    assert (await desk.info()).counts == (7 - len(first), len(first), 0, 0)
    assert await desk.claim_ids(limit=7) == ids[len(first) :]


@pytest.mark.parametrize("engines", [1, 2])
async def test_two_callers_never_get_the_same_claim(desk: Desk, engines: int) -> None:
    if engines == 2 and not desk.engine.traits.shared:
        pytest.skip("one engine at a time on this data")
    callers = [desk.engine, *[await desk.start() for _ in range(engines - 1)]]
    ids = {str(number) for number in range(120)}
    await desk.add(*ids)

    async def consume(number: int) -> list[tuple[str, str]]:
        engine = callers[number % engines]
        got = []
        while tasks := await engine.claim(
            Claim(("t",), desk.now + HOUR, str(number), 1 + number % 7), desk.now
        ):
            got += [(task.id, task.nonce) for task in map(copy.copy, tasks)]
        return got

    claims = [claim for got in await asyncio.gather(*map(consume, range(12))) for claim in got]
    assert len(claims) == 120
    assert {task_id for task_id, _ in claims} == ids
    assert len({nonce for _, nonce in claims}) == 120


@pytest.mark.parametrize("engines", [1, 2])
async def test_two_callers_never_get_the_same_task_by_id(desk: Desk, engines: int) -> None:
    if engines == 2 and not desk.engine.traits.shared:
        pytest.skip("one engine at a time on this data")
    callers = [desk.engine, *[await desk.start() for _ in range(engines - 1)]]
    await desk.add("1")
    claim = Claim((), desk.now + HOUR)
    tries = [callers[n % engines].claim_task("1", claim, desk.now, force=False) for n in range(10)]
    answers = await asyncio.gather(*tries, return_exceptions=True)
    refusals = [answer for answer in answers if isinstance(answer, BaseException)]
    assert len(refusals) == 9
    assert all(isinstance(error, RatusError) and error.status == 409 for error in refusals)
    assert (await desk.get("1")).attempts == 1


async def test_next_due_is_the_earliest_of_what_is_pending_and_what_lapses(desk: Desk) -> None:
    engine = desk.engine
    assert await engine.next_due("t") is None
    await desk.add("1", scheduled=desk.now + HOUR)
    assert await engine.next_due("t") == desk.now + HOUR
    await desk.add("2", scheduled=desk.now + MINUTE, priority=-9)
    assert await engine.next_due("t") == desk.now + MINUTE
    await desk.claim_task("2", timeout=2 * HOUR)
    assert await engine.next_due("t") == desk.now + HOUR
    await engine.extend("2", "", desk.now + SECOND, desk.now)
    assert await engine.next_due("t") == desk.now + SECOND
    await desk.add("3", scheduled=desk.now - HOUR, priority=9)
    assert await engine.next_due("t") == desk.now - HOUR
    await engine.set_paused("t", True)
    assert await engine.next_due("t") is None
    await engine.set_paused("t", False)
    assert await engine.next_due("t") == desk.now - HOUR


@pytest.mark.parametrize("state", [COMPLETED, ARCHIVED])
async def test_nothing_falls_due_in_a_topic_of_done_tasks(desk: Desk, state: int) -> None:
    await desk.add("1", state=state, deadline=desk.now, committed=desk.now)
    await desk.add("2", topic="other")
    assert await desk.engine.next_due("t") is None
