"""Commit: the nonce is checked and cleared, each commit stands alone."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ratus.core.errors import Conflict, NotFound, RatusError
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    DEFAULT_TIMEOUT,
    FAILED,
    PENDING,
    CommitRecord,
    TaskRecord,
)
from ratus.engine import LARGE_BATCH
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, members

STATES = [PENDING, ACTIVE, COMPLETED, ARCHIVED]


class CommittingTests(EngineTests):
    """Commit: the nonce is checked and cleared, each commit stands alone."""

    async def test_a_plain_commit_completes(self, harness: Harness) -> None:
        await harness.add("1", payload=b"[1]", attempts=1, error="boom")
        claimed = (await harness.claim(consumer="me"))[0]
        harness.now += SECOND
        task = await harness.commit("1", claimed.nonce)
        assert members(task) == {
            **members(claimed),
            "state": COMPLETED,
            "nonce": "",
            "committed": harness.now,
            "error": "",
            "attempts": 2,
        }
        assert members(await harness.get("1")) == members(task)
        assert (await harness.info()).counts == (0, 0, 1, 0)

    async def test_all_members_given_in_a_commit_are_applied(self, harness: Harness) -> None:
        await harness.add("1", payload=b"[1]", result=b"[2]")
        claimed = await harness.claim_one()
        task = await harness.commit(
            "1",
            claimed.nonce,
            topic="other",
            state=ARCHIVED,
            scheduled=harness.now + HOUR,
            payload=b"[3]",
            result=b"[4]",
            error="why",
        )
        assert (task.topic, task.state, task.scheduled) == ("other", ARCHIVED, harness.now + HOUR)
        assert (task.payload, task.result, task.error, task.outcome) == (b"[3]", b"[4]", "why", "")
        assert await harness.ids() == []
        assert await harness.ids("other") == ["1"]
        assert await harness.topics() == ["other"]

    @pytest.mark.parametrize("text", [b"null", b'""', b"0", b"false", b"[]", b"{}"])
    async def test_empty_values_replace_payload_and_result(self, harness: Harness, text: bytes) -> None:
        await harness.add("1", payload=b"[1]", result=b"[2]")
        task = await harness.commit("1", payload=text, result=text)
        assert (task.payload, task.result) == (text, text)

    async def test_what_a_commit_does_not_give_stays(self, harness: Harness) -> None:
        await harness.add(
            "1", payload=b"[1]", result=b"[2]", priority=3, scheduled=harness.now - HOUR, producer="p"
        )
        before = members(await harness.get("1"))
        task = members(await harness.commit("1"))
        assert {name for name in task if task[name] != before[name]} == {"state", "committed"}

    async def test_a_commit_to_a_task_that_is_not_there(self, harness: Harness) -> None:
        for nonce in ("", "AAAABBBBCCCCDDDD"):
            with pytest.raises(NotFound):
                await harness.commit("1", nonce)

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("commit", [{}, {"state": PENDING}, {"state": ACTIVE}, {"error": "boom"}])
    async def test_a_commit_with_another_nonce_is_a_conflict(
        self, harness: Harness, state: int, commit: dict[str, Any]
    ) -> None:
        await harness.add("1", state=state, nonce="AAAABBBBCCCCDDDD" if state == ACTIVE else "")
        before = members(await harness.get("1"))
        with pytest.raises(Conflict):
            await harness.commit("1", "ZZZZBBBBCCCCDDDD", payload=b"[9]", **commit)
        assert members(await harness.get("1")) == before

    @pytest.mark.parametrize("state", STATES)
    @pytest.mark.parametrize("target", [None, *STATES])
    async def test_a_commit_without_a_nonce_is_forced_from_any_state(
        self, harness: Harness, state: int, target: int | None
    ) -> None:
        await harness.add("1", state=state, nonce="AAAABBBBCCCCDDDD")
        task = await harness.commit("1", state=target)
        assert (task.state, task.nonce) == (COMPLETED if target is None else target, "")
        counts = [0, 0, 0, 0]
        counts[task.state] = 1
        assert (await harness.info()).counts == tuple(counts)

    async def test_a_nonce_counts_once(self, harness: Harness) -> None:
        await harness.add("1")
        claimed = await harness.claim_one()
        await harness.commit("1", claimed.nonce)
        with pytest.raises(Conflict):
            await harness.commit("1", claimed.nonce)

    @pytest.mark.parametrize("how", ["release", "release_topic", "recover", "claim", "force"])
    async def test_a_lost_claim_cannot_be_committed(self, harness: Harness, how: str) -> None:
        await harness.add("1")
        claimed = await harness.claim_one(timeout=SECOND)
        harness.now += SECOND
        if how == "release":
            await harness.engine.release("1", harness.now)
        elif how == "release_topic":
            await harness.engine.release_topic("t", harness.now)
        elif how == "recover":
            await harness.engine.recover(harness.now)
        elif how == "claim":
            await harness.claim()
        else:
            await harness.claim_task("1", force=True)
        before = members(await harness.get("1"))
        with pytest.raises(Conflict):
            await harness.commit("1", claimed.nonce)
        assert members(await harness.get("1")) == before

    async def test_a_late_commit_counts_until_the_claim_is_taken_back(self, harness: Harness) -> None:
        await harness.add("1")
        claimed = await harness.claim_one(timeout=SECOND)
        harness.now += HOUR
        assert (await harness.commit("1", claimed.nonce)).state == COMPLETED

    async def test_a_nonce_that_was_inserted_is_one(self, harness: Harness) -> None:
        """Tasks are copied between servers with their nonces, so that running claims are copied too."""
        await harness.add("1", state=ACTIVE, nonce="AAAABBBBCCCCDDDD", deadline=harness.now + MINUTE)
        with pytest.raises(Conflict):
            await harness.commit("1", "ZZZZBBBBCCCCDDDD")
        assert (await harness.commit("1", "AAAABBBBCCCCDDDD")).state == COMPLETED

    async def test_a_task_made_active_without_a_deadline_lapses_after_ten_minutes(
        self, harness: Harness
    ) -> None:
        await harness.add("1")
        task = await harness.commit("1", state=ACTIVE)
        assert (task.deadline, task.implied) == (harness.now + DEFAULT_TIMEOUT, True)
        harness.now += DEFAULT_TIMEOUT
        assert await harness.claim_ids() == ["1"]

    async def test_a_task_made_active_with_a_deadline_keeps_it(self, harness: Harness) -> None:
        await harness.add("1")
        claimed = await harness.claim_one(timeout=MINUTE)
        task = await harness.commit("1", claimed.nonce, state=ACTIVE)
        assert (task.deadline, task.implied, task.attempts) == (claimed.deadline, False, 1)

    async def test_a_commit_to_pending_at_a_later_time(self, harness: Harness) -> None:
        await harness.add("1")
        claimed = await harness.claim_one()
        await harness.commit("1", claimed.nonce, state=PENDING, scheduled=harness.now + MINUTE)
        assert await harness.claim() == []
        harness.now += MINUTE
        assert await harness.claim_ids() == ["1"]

    async def test_each_commit_of_a_batch_stands_alone(self, harness: Harness) -> None:
        await harness.add("1", "2", "3", "4")
        one, two, three = await harness.claim(limit=3)
        answers = await harness.engine.commit(
            [
                CommitRecord("1", one.nonce),
                CommitRecord("missing"),
                CommitRecord("2", one.nonce),
                CommitRecord("3", three.nonce, error="boom"),
                CommitRecord("4", state=ARCHIVED),
            ],
            harness.now,
        )
        states = [a.state if isinstance(a, TaskRecord) else type(a) for a in answers]
        assert states == [COMPLETED, NotFound, Conflict, PENDING, ARCHIVED]
        assert members(await harness.get("2")) == members(two)
        assert (await harness.info()).counts == (1, 1, 1, 1)

    async def test_the_commits_of_a_batch_are_applied_in_order(self, harness: Harness) -> None:
        await harness.add("1", payload=b"[0]")
        claimed = await harness.claim_one()
        answers = await harness.engine.commit(
            [
                CommitRecord("1", claimed.nonce, state=PENDING, payload=b"[1]"),
                CommitRecord("1", claimed.nonce, payload=b"[2]"),
                CommitRecord("1", state=ARCHIVED),
                CommitRecord("1", "", topic="other", state=PENDING),
            ],
            harness.now,
        )
        assert [isinstance(answer, RatusError) for answer in answers] == [False, True, False, False]
        task = await harness.get("1")
        assert (task.topic, task.state, task.payload) == ("other", PENDING, b"[1]")

    async def test_each_item_of_a_batch_is_answered_with_the_task_as_it_then_was(
        self, harness: Harness
    ) -> None:
        await harness.add("1", "2")
        commits = [
            CommitRecord(name, state=state) for name, state in (("1", 3), ("2", 2), ("1", 2), ("1", 0))
        ]
        answers = await harness.engine.commit(commits, harness.now)
        assert [(task.id, task.state) for task in answers if isinstance(task, TaskRecord)] == [
            ("1", ARCHIVED),
            ("2", COMPLETED),
            ("1", COMPLETED),
            ("1", PENDING),
        ]

    async def test_a_large_batch_of_commits(self, harness: Harness) -> None:
        await harness.add(*map(str, range(1000)))
        claimed = await harness.claim(limit=1000)
        answers = await harness.engine.commit(
            [CommitRecord(task.id, task.nonce, result=b"[1]") for task in claimed], harness.now
        )
        assert all(isinstance(answer, TaskRecord) and answer.state == COMPLETED for answer in answers)
        assert (await harness.info()).counts == (0, 0, 1000, 0)

    # ---- attempts --------------------------------------------------------------------------------

    async def test_giving_back_is_not_failing(self, harness: Harness) -> None:
        await harness.add("1", attempts=2, error="boom")
        claimed = await harness.claim_one()
        assert claimed.attempts == 3
        task = await harness.commit("1", claimed.nonce, state=PENDING)
        assert (task.attempts, task.error, task.scheduled) == (2, "boom", claimed.scheduled)

    async def test_giving_back_with_an_error_counts(self, harness: Harness) -> None:
        await harness.add("1")
        claimed = await harness.claim_one()
        task = await harness.commit("1", claimed.nonce, state=PENDING, error="boom")
        assert (task.state, task.attempts, task.error, task.scheduled) == (
            PENDING,
            1,
            "boom",
            claimed.scheduled,
        )

    async def test_giving_back_never_falls_below_zero(self, harness: Harness) -> None:
        await harness.add("1", state=ACTIVE, attempts=0)
        assert (await harness.commit("1", state=PENDING)).attempts == 0

    @pytest.mark.parametrize("state", [PENDING, COMPLETED, ARCHIVED])
    async def test_to_pending_from_any_other_state_starts_afresh(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state, attempts=5, error="boom", outcome=FAILED, result=b"[2]")
        task = await harness.commit("1", state=PENDING)
        assert (task.state, task.attempts, task.error, task.outcome) == (PENDING, 0, "", "")
        assert task.result == b"[2]"
        assert await harness.claim_ids() == ["1"]

    async def test_afresh_with_an_error_keeps_that_error(self, harness: Harness) -> None:
        await harness.add("1", state=ARCHIVED, attempts=5, error="boom", outcome=FAILED)
        task = await harness.commit("1", state=PENDING, error="again")
        assert (task.attempts, task.error, task.outcome) == (0, "again", "")

    @pytest.mark.parametrize("state", [ACTIVE, ARCHIVED])
    async def test_other_states_leave_attempts_and_error(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=ARCHIVED, attempts=5, error="boom", outcome=FAILED)
        task = await harness.commit("1", state=state)
        assert (task.state, task.attempts, task.error, task.outcome) == (state, 5, "boom", "")

    @pytest.mark.parametrize("target", [ACTIVE, COMPLETED, ARCHIVED])
    async def test_an_error_with_a_state_is_kept(self, harness: Harness, target: int) -> None:
        await harness.add("1", error="old")
        claimed = await harness.claim_one()
        task = await harness.commit("1", claimed.nonce, state=target, error="new")
        assert (task.state, task.error, task.outcome, task.attempts) == (target, "new", "", 1)

    @pytest.mark.parametrize("target", [None, COMPLETED])
    async def test_a_success_clears_error_and_outcome(self, harness: Harness, target: int | None) -> None:
        await harness.add("1", state=ARCHIVED, error="boom", outcome=FAILED, attempts=3)
        task = await harness.commit("1", state=target)
        assert (task.state, task.error, task.outcome, task.attempts) == (COMPLETED, "", "", 3)

    async def test_an_empty_error_is_an_error(self, harness: Harness) -> None:
        """A commit is a failure where ``error`` is given, even as an empty text."""
        await harness.add("1")
        claimed = await harness.claim_one()
        assert (await harness.fail("1", claimed.nonce, error="")).state == PENDING

    async def test_a_commit_handed_in_is_not_changed(self, harness: Harness) -> None:
        await harness.add("1")
        commit = CommitRecord("1", error="boom", payload=b"[1]")
        before = copy.copy(commit)
        await harness.engine.commit([commit], harness.now)
        assert commit == before

    async def test_what_a_large_batch_of_commits_gives_stays_as_it_was(self, harness: Harness) -> None:
        ids = [str(number) for number in range(LARGE_BATCH + 1)]
        await harness.add(*ids)
        results = await harness.engine.commit([CommitRecord(each) for each in ids], harness.now)
        await harness.engine.commit([CommitRecord(each, state=ARCHIVED) for each in ids], harness.now)
        assert {result.state for result in results if isinstance(result, TaskRecord)} == {COMPLETED}
        assert len(results) == len(ids)

    async def test_a_large_batch_of_commits_keeps_its_order(self, harness: Harness) -> None:
        ids = [str(number) for number in range(2 * LARGE_BATCH + 1)]
        await harness.add(*ids)
        assert [task.id for task in await harness.claim(limit=len(ids))] == ids
        commits = [CommitRecord(each, error=str(at)) for at, each in enumerate([*ids, *ids, "none"])]
        results = await harness.engine.commit(commits, harness.now)
        assert [result.error for result in results[:-1] if isinstance(result, TaskRecord)] == [
            str(at) for at in range(2 * len(ids))
        ]
        assert isinstance(results[-1], NotFound)
