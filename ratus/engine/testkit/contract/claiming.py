"""Claim: due tasks of these topics only, in the order of claiming, each to one consumer."""

from __future__ import annotations

import asyncio
import copy
import string

import pytest

from ratus.core.errors import RatusError
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, EXPIRED, MAX_PAGE_BYTES, PENDING
from ratus.core.selection import Selection
from ratus.core.transitions import DEADLINE_EXCEEDED
from ratus.engine import CLAIM_CHORES
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MILLISECOND, MINUTE, SECOND, Harness, members

LETTERS = set(string.ascii_letters + string.digits)


class ClaimingTests(EngineTests):
    """Claim: due tasks of these topics only, in the order of claiming, each to one consumer."""

    async def test_a_claim_hands_the_task_out(self, harness: Harness) -> None:
        await harness.add("1", consumer="old", payload=b"[1]")
        before = await harness.get("1")
        harness.now += SECOND
        (task,) = await harness.claim(consumer="me", timeout=30 * SECOND)
        assert members(task) == {
            **members(before),
            "state": ACTIVE,
            "nonce": task.nonce,
            "consumer": "me",
            "consumed": harness.now,
            "deadline": harness.now + 30 * SECOND,
            "attempts": 1,
        }
        assert len(task.nonce) == 16
        assert set(task.nonce) <= LETTERS
        assert members(await harness.get("1")) == members(task)

    async def test_a_claim_without_a_consumer_removes_the_old_one(self, harness: Harness) -> None:
        await harness.add("1", consumer="old")
        assert (await harness.claim_one()).consumer == ""

    async def test_a_claim_gives_nothing_where_nothing_is_due(self, harness: Harness) -> None:
        assert await harness.claim() == []
        assert await harness.topics() == []

    @pytest.mark.parametrize("state", [ACTIVE, COMPLETED, ARCHIVED])
    async def test_only_pending_tasks_are_claimed(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state, deadline=harness.now + HOUR, committed=harness.now)
        assert await harness.claim() == []

    async def test_each_claim_has_a_nonce_of_its_own(self, harness: Harness) -> None:
        await harness.add(*map(str, range(200)))
        nonces = {task.nonce for task in await harness.claim(limit=200)}
        assert len(nonces) == 200

    async def test_a_task_is_not_claimed_before_it_is_scheduled(self, harness: Harness) -> None:
        await harness.add("1", scheduled=harness.now + SECOND)
        assert await harness.claim() == []
        harness.now += SECOND - MILLISECOND
        assert await harness.claim() == []
        harness.now += MILLISECOND
        assert await harness.claim_ids() == ["1"]

    async def test_times_before_1970_are_due(self, harness: Harness) -> None:
        await harness.add("1", scheduled=-HOUR)
        await harness.add("2", state=ACTIVE, deadline=-2 * HOUR, scheduled=-2 * HOUR)
        assert await harness.claim_ids() == ["2", "1"]

    async def test_larger_priorities_come_first(self, harness: Harness) -> None:
        for priority in (0, -9, 9, -1, 1, 5, -5):
            await harness.add(str(priority), priority=priority)
        assert await harness.claim_ids() == ["9", "5", "1", "0", "-1", "-5", "-9"]

    async def test_priority_then_schedule_then_creation(self, harness: Harness) -> None:
        await harness.add("low, early", priority=-1, scheduled=harness.now - HOUR)
        await harness.add("late", scheduled=harness.now)
        await harness.add("later", scheduled=harness.now)
        await harness.add("early", scheduled=harness.now - SECOND)
        await harness.add("high, late", priority=1, scheduled=harness.now)
        await harness.add("earlier", scheduled=harness.now - MINUTE)
        await harness.add("high, not due", priority=9, scheduled=harness.now + SECOND)
        assert await harness.claim_ids() == ["high, late", "earlier", "early", "late", "later", "low, early"]

    async def test_one_that_falls_due_takes_its_place(self, harness: Harness) -> None:
        await harness.add("high", priority=1, scheduled=harness.now + SECOND)
        await harness.add("low", "low too", "and low", scheduled=harness.now)
        assert await harness.claim_ids(limit=1) == ["low"]
        harness.now += SECOND
        assert await harness.claim_ids(limit=2) == ["high", "low too"]

    async def test_first_in_first_out(self, harness: Harness) -> None:
        ids = [str(number * 7919 % 1009) for number in range(100)]
        await harness.add(*ids[:50])
        for name in ids[50:]:
            await harness.add(name)
        assert await harness.claim_ids(limit=60) == ids[:60]
        assert await harness.claim_ids(limit=60) == ids[60:]

    async def test_the_order_of_creation_is_kept_through_everything_but_deletion(
        self, harness: Harness
    ) -> None:
        ids = ["e", "d", "c", "b", "a", "f"]
        await harness.add(*ids)
        await harness.upsert(harness.task("d"), harness.task("e"))  # replaced
        c = await harness.claim_task("c")
        await harness.engine.release("c", harness.now, c.nonce)  # released
        b = await harness.claim_task("b")
        await harness.commit("b", b.nonce, state=PENDING)  # given back
        await harness.commit("a", topic="other", state=PENDING)  # moved away ...
        await harness.commit("a", topic="t", state=PENDING)  # ... and back
        await harness.commit("d")  # completed and revived
        await harness.commit("d", state=PENDING)
        await harness.claim_task("e", timeout=SECOND)  # lapsed
        await harness.engine.recover(harness.now + SECOND)
        harness.now += SECOND
        await harness.reopen()
        assert await harness.claim_ids() == ids

    async def test_a_task_that_comes_again_is_a_new_one(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        await harness.engine.delete_task("1")
        await harness.add("1", scheduled=harness.now)
        assert await harness.claim_ids() == ["2", "3", "1"]

    async def test_a_task_moved_to_another_topic_keeps_its_place(self, harness: Harness) -> None:
        await harness.add("1", topic="a")
        await harness.add("2", topic="b")
        await harness.add("3", topic="a")
        await harness.commit("1", topic="b", state=PENDING)
        await harness.commit("3", topic="b", state=PENDING)
        assert await harness.claim_ids("b") == ["1", "2", "3"]

    async def test_a_claim_never_gives_another_topics_task(self, harness: Harness) -> None:
        await harness.add("1", topic="other", priority=9, scheduled=harness.now - HOUR)
        for topic in ("t", "othe", "other2", "OTHER", ""):
            assert await harness.claim(topic) == []
        await harness.add("2")
        assert await harness.claim_ids() == ["2"]
        assert (await harness.get("1")).state == PENDING

    async def test_a_claim_never_gives_another_topics_lapsed_task(self, harness: Harness) -> None:
        await harness.add("1", topic="other")
        await harness.claim("other", timeout=SECOND)
        harness.now += HOUR
        assert await harness.claim() == []
        assert await harness.claim_ids("other") == ["1"]

    async def test_topics_are_claimed_from_in_order_of_preference(self, harness: Harness) -> None:
        await harness.add("b1", "b2", topic="b", priority=9)
        await harness.add("a1", topic="a", priority=-9)
        await harness.add("c1", topic="c", scheduled=harness.now - HOUR)
        assert await harness.claim_ids("a", "b", limit=2) == ["a1", "b1"]
        assert await harness.claim_ids("a", "c", "missing", "b") == ["c1", "b2"]

    async def test_the_same_topic_twice_is_that_topic(self, harness: Harness) -> None:
        await harness.add("1", "2", "3")
        assert await harness.claim_ids("t", "t") == ["1", "2", "3"]

    async def test_a_lapsed_claim_in_a_topic_further_down_is_taken_back(self, harness: Harness) -> None:
        await harness.add("1", topic="b")
        await harness.claim("b", timeout=SECOND)
        harness.now += SECOND
        assert await harness.claim_ids("a", "b") == ["1"]

    async def test_a_claim_gives_no_more_than_its_limit(self, harness: Harness) -> None:
        await harness.add(*map(str, range(10)))
        assert len(await harness.claim(limit=3)) == 3
        assert (await harness.info()).counts == (7, 3, 0, 0)
        assert len(await harness.claim(limit=100)) == 7
        assert await harness.claim(limit=100) == []

    async def test_many_claimed_at_once_share_time_and_consumer(self, harness: Harness) -> None:
        await harness.add("1", "2")
        for task in await harness.claim(limit=2, consumer="me", timeout=MINUTE):
            assert (task.consumer, task.consumed, task.deadline) == ("me", harness.now, harness.now + MINUTE)
            assert members(await harness.get(task.id)) == members(task)

    async def test_a_paused_topic_gives_nothing(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.add("2", topic="other")
        await harness.engine.set_paused("t", True)
        assert await harness.claim() == []
        assert await harness.claim_ids("t", "other") == ["2"]
        await harness.engine.set_paused("t", False)
        assert await harness.claim_ids() == ["1"]

    async def test_lapsed_claims_are_taken_back_first(self, harness: Harness) -> None:
        await harness.add("old", priority=1)
        await harness.add("new")
        old = await harness.claim_one(timeout=SECOND)
        assert old.id == "old"
        harness.now += SECOND
        again = await harness.claim_one()
        assert (again.id, again.attempts, again.error) == ("old", 2, DEADLINE_EXCEEDED)
        assert again.nonce != old.nonce

    async def test_a_claim_is_kept_until_its_deadline(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.claim(timeout=SECOND)
        harness.now += SECOND - MILLISECOND
        assert await harness.claim() == []
        harness.now += MILLISECOND
        assert await harness.claim_ids() == ["1"]

    async def test_an_expired_task_is_never_handed_out(self, harness: Harness) -> None:
        await harness.add("1", expires=harness.now + SECOND)
        await harness.add("2", scheduled=harness.now + SECOND)
        harness.now += SECOND
        assert await harness.claim_ids() == ["2"]
        await harness.engine.expire(harness.now)
        task = await harness.get("1")
        assert (task.state, task.outcome) == (ARCHIVED, EXPIRED)

    async def test_one_poll_does_not_pay_for_every_lapsed_claim(self, harness: Harness) -> None:
        count = CLAIM_CHORES + 500
        await harness.add(*map(str, range(count)), state=ACTIVE, deadline=harness.now)
        await harness.add("due", priority=1)
        assert await harness.claim_ids(limit=1) == ["due"]
        assert await harness.engine.recover(harness.now) >= 500

    async def test_a_due_task_behind_many_expired_ones_is_reached(self, harness: Harness) -> None:
        count = CLAIM_CHORES + 500
        await harness.add(*map(str, range(count)), priority=1, expires=harness.now)
        await harness.add("due")
        assert await harness.claim_ids(limit=1) == ["due"]

    async def test_where_everything_has_expired_nothing_is_due(self, harness: Harness) -> None:
        await harness.add(*map(str, range(CLAIM_CHORES + 500)), expires=harness.now)
        assert await harness.claim_ids() == []

    async def test_an_answer_ends_early_when_it_grows_too_large(self, harness: Harness) -> None:
        size = 3 * 1024 * 1024
        payload = b'"' + b"x" * (size - 2) + b'"'
        ids = [str(number) for number in range(7)]
        for name in ids:
            await harness.add(name, payload=payload)
        first = await harness.claim_ids(limit=7)
        assert 1 <= len(first) <= MAX_PAGE_BYTES // size
        assert first == ids[: len(first)]
        assert (await harness.info()).counts == (7 - len(first), len(first), 0, 0)
        assert await harness.claim_ids(limit=7) == ids[len(first) :]

    @pytest.mark.parametrize("engines", [1, 2])
    async def test_two_callers_never_get_the_same_claim(self, harness: Harness, engines: int) -> None:
        if engines == 2 and not harness.engine.traits.shared:
            pytest.skip("one engine at a time on this data")
        callers = [harness.engine, *[await harness.start() for _ in range(engines - 1)]]
        ids = {str(number) for number in range(120)}
        await harness.add(*ids)

        async def consume(number: int) -> list[tuple[str, str]]:
            engine = callers[number % engines]
            got = []
            while tasks := await engine.claim(
                Selection(("t",), harness.now + HOUR, str(number), 1 + number % 7), harness.now
            ):
                got += [(task.id, task.nonce) for task in map(copy.copy, tasks)]
            return got

        claims = [claim for got in await asyncio.gather(*map(consume, range(12))) for claim in got]
        assert len(claims) == 120
        assert {task_id for task_id, _ in claims} == ids
        assert len({nonce for _, nonce in claims}) == 120

    @pytest.mark.parametrize("engines", [1, 2])
    async def test_two_callers_never_get_the_same_task_by_id(self, harness: Harness, engines: int) -> None:
        if engines == 2 and not harness.engine.traits.shared:
            pytest.skip("one engine at a time on this data")
        callers = [harness.engine, *[await harness.start() for _ in range(engines - 1)]]
        await harness.add("1")
        selection = Selection((), harness.now + HOUR)
        tries = [callers[n % engines].claim_task("1", selection, harness.now, force=False) for n in range(10)]
        answers = await asyncio.gather(*tries, return_exceptions=True)
        refusals = [answer for answer in answers if isinstance(answer, BaseException)]
        assert len(refusals) == 9
        assert all(isinstance(error, RatusError) and error.status == 409 for error in refusals)
        assert (await harness.get("1")).attempts == 1

    async def test_next_due_is_the_earliest_of_what_is_pending_and_what_lapses(
        self, harness: Harness
    ) -> None:
        engine = harness.engine
        assert await engine.next_due("t", harness.now) is None
        await harness.add("1", scheduled=harness.now + HOUR)
        assert await engine.next_due("t", harness.now) == harness.now + HOUR
        await harness.add("2", scheduled=harness.now + MINUTE, priority=-9)
        assert await engine.next_due("t", harness.now) == harness.now + MINUTE
        await harness.claim_task("2", timeout=2 * HOUR)
        assert await engine.next_due("t", harness.now) == harness.now + HOUR
        await engine.extend("2", "", harness.now + SECOND, harness.now)
        assert await engine.next_due("t", harness.now) == harness.now + SECOND
        await harness.add("3", scheduled=harness.now - HOUR, priority=9)
        assert await engine.next_due("t", harness.now) == harness.now - HOUR
        await engine.set_paused("t", True)
        assert await engine.next_due("t", harness.now) is None
        await engine.set_paused("t", False)
        assert await engine.next_due("t", harness.now) == harness.now - HOUR

    @pytest.mark.parametrize("state", [COMPLETED, ARCHIVED])
    async def test_nothing_falls_due_in_a_topic_of_done_tasks(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state, deadline=harness.now, committed=harness.now)
        await harness.add("2", topic="other")
        assert await harness.engine.next_due("t", harness.now) is None
