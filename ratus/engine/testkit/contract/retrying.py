"""Failures: another attempt after the backoff, or the dead letters."""

from __future__ import annotations

from typing import Any

import pytest

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, FAILED, PENDING, RetryPolicy
from ratus.core.times import MAX_TIME
from ratus.core.transitions import DEADLINE_EXCEEDED, RetryDefaults
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MILLISECOND, MINUTE, SECOND, Harness, fixed

WAYS = ["reported", "lapsed"]


async def fail_once(harness: Harness, way: str) -> int:
    """Claim the only due task and fail it in this way. Returns the time from which a delay counts."""
    task = await harness.claim_one(timeout=30 * SECOND)
    if way == "reported":
        harness.now += SECOND
        await harness.fail(task.id, task.nonce)
        return harness.now
    assert task.deadline is not None
    harness.now += 45 * SECOND  # noticed late: the delay counts from the deadline all the same
    assert await harness.engine.recover(harness.now) == 1
    return task.deadline


class RetryingTests(EngineTests):
    """Failures: another attempt after the backoff, or the dead letters."""

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_failure_is_tried_again(self, harness: Harness, way: str) -> None:
        await harness.add("1", retry=RetryPolicy(), payload=b"[1]")
        since = await fail_once(harness, way)
        task = await harness.get("1")
        error = "boom" if way == "reported" else DEADLINE_EXCEEDED
        assert (task.state, task.nonce, task.attempts, task.error, task.outcome) == (
            PENDING,
            "",
            1,
            error,
            "",
        )
        assert task.scheduled == since + SECOND
        assert (task.committed == harness.now) is (way == "reported")
        harness.now = max(harness.now, since + SECOND)
        assert (await harness.claim_one()).attempts == 2

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("policy", "delays"),
        [
            ({"backoff": "constant", "delay": 2 * SECOND}, [2, 2, 2, 2]),
            ({"backoff": "linear", "delay": 2 * SECOND}, [2, 4, 6, 8]),
            ({"backoff": "exponential", "delay": 2 * SECOND}, [2, 4, 8, 16]),
            ({"backoff": "linear", "delay": 2 * SECOND, "max_delay": 5 * SECOND}, [2, 4, 5, 5]),
            ({"backoff": "exponential", "delay": 2 * SECOND, "max_delay": 5 * SECOND}, [2, 4, 5, 5]),
            ({"backoff": "constant", "delay": 9 * SECOND, "max_delay": 5 * SECOND}, [5, 5, 5, 5]),
            ({}, [1, 2, 4, 8]),
            ({"delay": 0}, [0, 0, 0, 0]),
            ({"max_delay": 0}, [0, 0, 0, 0]),
        ],
    )
    async def test_the_backoff_is_exact(
        self, harness: Harness, way: str, policy: dict[str, Any], delays: list[int]
    ) -> None:
        await harness.add("1", retry=RetryPolicy(**policy))
        for delay in delays:
            since = await fail_once(harness, way)
            scheduled = since + delay * SECOND
            assert (await harness.get("1")).scheduled == scheduled
            if scheduled > harness.now:
                harness.now = scheduled - MILLISECOND
                assert await harness.claim() == []
                harness.now = scheduled

    @pytest.mark.parametrize("way", WAYS)
    @pytest.mark.parametrize(
        ("jitter", "random", "delay"),
        [
            (None, 0.0, 9_000),
            (None, 0.75, 10_500),
            (0.5, 0.0, 5_000),
            (0.5, 0.75, 12_500),
            (0.0, 0.0, 10_000),
            (1.0, 0.0, 0),
            (1.0, 0.75, 15_000),
        ],
    )
    async def test_jitter_changes_the_delay_by_up_to_that_part(
        self, harness: Harness, way: str, jitter: float | None, random: float, delay: int
    ) -> None:
        await harness.reopen(random=fixed(random))
        policy = RetryPolicy(backoff="constant", delay=10 * SECOND, jitter=jitter)
        await harness.add("1", retry=policy)
        since = await fail_once(harness, way)
        assert (await harness.get("1")).scheduled == since + delay * MILLISECOND

    async def test_jitter_comes_on_top_of_the_longest_delay(self, harness: Harness) -> None:
        await harness.reopen(random=fixed(0.75))
        await harness.add("1", retry=RetryPolicy(delay=HOUR, max_delay=10 * SECOND, jitter=0.2))
        since = await fail_once(harness, "reported")
        assert (await harness.get("1")).scheduled == since + 11 * SECOND

    @pytest.mark.parametrize("way", WAYS)
    async def test_a_failure_without_attempts_left_makes_a_dead_letter(
        self, harness: Harness, way: str
    ) -> None:
        await harness.add(
            "1", payload=b"[1]", retry=RetryPolicy(max_attempts=3, delay=SECOND, backoff="linear")
        )
        for number in (1, 2, 3):
            await fail_once(harness, way)
            task = await harness.get("1")
            assert task.attempts == number
            assert task.state == (ARCHIVED if number == 3 else PENDING)
            harness.now += MINUTE
        assert task.outcome == FAILED
        assert task.error == ("boom" if way == "reported" else DEADLINE_EXCEEDED)
        assert (task.nonce, task.payload) == ("", b"[1]")
        assert await harness.claim() == []
        assert await harness.ids(state=ARCHIVED, outcome=FAILED) == ["1"]
        assert (await harness.info()).counts == (0, 0, 0, 1)

    async def test_dead_letters_are_never_purged(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=1))
        await fail_once(harness, "reported")
        assert await harness.engine.purge(harness.now + HOUR) == 0
        assert (await harness.get("1")).outcome == FAILED

    async def test_a_poll_that_takes_back_the_last_attempt_gets_nothing(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=1))
        await harness.claim(timeout=SECOND)
        harness.now += SECOND
        assert await harness.claim() == []
        task = await harness.get("1")
        assert (task.state, task.outcome, task.error) == (ARCHIVED, FAILED, DEADLINE_EXCEEDED)

    async def test_a_poll_that_takes_a_claim_back_keeps_to_the_backoff(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(delay=MINUTE))
        await harness.claim(timeout=SECOND)
        harness.now += SECOND
        assert await harness.claim() == []
        harness.now += MINUTE
        assert (await harness.claim_one()).attempts == 2

    async def test_a_dead_letter_is_revived_by_a_commit(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=2, delay=0))
        for _ in range(2):
            await fail_once(harness, "reported")
        task = await harness.commit("1", state=PENDING)
        assert (task.state, task.attempts, task.error, task.outcome) == (PENDING, 0, "", "")
        for expected in (PENDING, ARCHIVED):
            await fail_once(harness, "reported")
            assert (await harness.get("1")).state == expected

    async def test_giving_back_does_not_use_attempts_up(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=2, delay=0))
        for _ in range(5):
            task = await harness.claim_one()
            await harness.engine.release("1", harness.now, task.nonce)
            task = await harness.claim_one()
            await harness.commit("1", task.nonce, state=PENDING)
        assert (await harness.get("1")).attempts == 0

    async def test_claims_taken_over_use_attempts_up(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=3))
        for _ in range(3):
            task = await harness.claim_task("1", force=True)
        assert (task.attempts, task.error) == (3, DEADLINE_EXCEEDED)
        assert (await harness.fail("1", task.nonce)).state == ARCHIVED

    # ---- the server's defaults -------------------------------------------------------------------

    async def test_the_servers_defaults_are_used_where_nothing_is_given(self, harness: Harness) -> None:
        await harness.reopen(retry=RetryDefaults(max_attempts=3, delay=5 * SECOND, max_delay=8 * SECOND))
        await harness.add("1")
        for delay in (5, 8):
            since = await fail_once(harness, "reported")
            assert (await harness.get("1")).scheduled == since + delay * SECOND
            harness.now += MINUTE
        await fail_once(harness, "reported")
        assert (await harness.get("1")).outcome == FAILED

    async def test_members_of_a_policy_beat_the_servers_defaults(self, harness: Harness) -> None:
        await harness.reopen(retry=RetryDefaults(max_attempts=1, delay=5 * SECOND, max_delay=8 * SECOND))
        await harness.add("1", retry=RetryPolicy(max_attempts=0, max_delay=6 * SECOND))
        for delay in (5, 6, 6):
            since = await fail_once(harness, "reported")
            assert (await harness.get("1")).scheduled == since + delay * SECOND
            harness.now += MINUTE

    async def test_without_a_limit_of_attempts_a_task_is_tried_for_ever(self, harness: Harness) -> None:
        await harness.add("1", attempts=1_000_000)
        since = await fail_once(harness, "reported")
        task = await harness.get("1")
        assert (task.state, task.attempts, task.scheduled) == (PENDING, 1_000_001, since + HOUR)

    # ---- lapses ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("who", ["chore", "poll"])
    async def test_a_lapse_without_a_policy_has_no_delay_but_counts(self, harness: Harness, who: str) -> None:
        await harness.add("1", "2")
        claimed = await harness.claim_one(timeout=SECOND)
        assert claimed.id == "1"
        harness.now += HOUR
        if who == "chore":
            await harness.engine.recover(harness.now)
            task = await harness.get("1")
            assert (task.state, task.scheduled) == (PENDING, claimed.scheduled)
        task = await harness.claim_one()
        assert (task.id, task.attempts, task.error) == ("1", 2, DEADLINE_EXCEEDED)

    async def test_a_lapse_under_the_servers_limit_is_a_dead_letter(self, harness: Harness) -> None:
        await harness.reopen(retry=RetryDefaults(max_attempts=2))
        await harness.add("1")
        await fail_once(harness, "lapsed")
        assert (await harness.get("1")).state == PENDING
        await fail_once(harness, "lapsed")
        task = await harness.get("1")
        assert (task.state, task.outcome, task.error) == (ARCHIVED, FAILED, DEADLINE_EXCEEDED)

    async def test_a_task_handed_in_active_lapses_like_any_other(self, harness: Harness) -> None:
        await harness.add(
            "1", state=ACTIVE, attempts=3, deadline=harness.now, retry=RetryPolicy(max_attempts=3)
        )
        assert await harness.engine.recover(harness.now) == 1
        assert (await harness.get("1")).outcome == FAILED

    # ---- reported failures -----------------------------------------------------------------------

    @pytest.mark.parametrize("later", [-HOUR, 0, MINUTE])
    async def test_the_consumers_own_time_replaces_the_backoff(self, harness: Harness, later: int) -> None:
        await harness.add("1", retry=RetryPolicy(delay=HOUR))
        claimed = await harness.claim_one()
        task = await harness.fail("1", claimed.nonce, scheduled=harness.now + later)
        assert (task.state, task.scheduled, task.attempts) == (PENDING, harness.now + later, 1)

    async def test_the_consumers_own_time_saves_no_task_without_attempts(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(max_attempts=1))
        claimed = await harness.claim_one()
        task = await harness.fail("1", claimed.nonce, scheduled=harness.now + MINUTE)
        assert (task.state, task.outcome) == (ARCHIVED, FAILED)

    async def test_a_failure_can_carry_a_result_and_move_the_task(self, harness: Harness) -> None:
        await harness.add("1", payload=b"[1]")
        claimed = await harness.claim_one()
        task = await harness.fail("1", claimed.nonce, topic="again", result=b"[2]", payload=b"[3]")
        assert (task.topic, task.state, task.result, task.payload) == ("again", PENDING, b"[2]", b"[3]")
        harness.now += SECOND
        assert await harness.claim_ids("again") == ["1"]

    @pytest.mark.parametrize("state", [PENDING, COMPLETED, ARCHIVED])
    async def test_a_forced_failure_of_a_task_that_is_not_active(self, harness: Harness, state: int) -> None:
        await harness.add(
            "1", state=state, attempts=2, outcome="", retry=RetryPolicy(max_attempts=3, delay=SECOND)
        )
        task = await harness.fail("1")
        assert (task.state, task.attempts, task.scheduled) == (PENDING, 2, harness.now + 2 * SECOND)
        await harness.upsert(harness.task("1", state=state, attempts=3, retry=RetryPolicy(max_attempts=3)))
        task = await harness.fail("1")
        assert (task.state, task.attempts, task.outcome) == (ARCHIVED, 3, FAILED)

    async def test_a_success_after_failures_clears_the_error(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(delay=0))
        await fail_once(harness, "reported")
        claimed = await harness.claim_one()
        task = await harness.commit("1", claimed.nonce, result=b"[1]")
        assert (task.state, task.error, task.outcome, task.attempts) == (COMPLETED, "", "", 2)

    async def test_a_backoff_ends_with_time_itself(self, harness: Harness) -> None:
        await harness.add("1", retry=RetryPolicy(delay=MAX_TIME, max_delay=MAX_TIME, jitter=0.0))
        await fail_once(harness, "reported")
        assert 0 <= MAX_TIME - (await harness.get("1")).scheduled < harness.engine.traits.precision
