"""Committing: each commit by itself in one guarded step, or a batch of them in two.

For a batch of commits that each have the nonce of a claim, all tasks are read at once, and all changes are
written at once. Where the database says that fewer changes were written, the tasks are read again to find out
which.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from bson.errors import InvalidDocument
from msgspec import structs
from pymongo.errors import PyMongoError

from ratus.core import transitions
from ratus.core.errors import BadRequest, Conflict, NotFound, PayloadTooLarge, RatusError
from ratus.core.records import ACTIVE, CommitRecord, TaskRecord
from ratus.core.transitions import Change, RetryDefaults
from ratus_engines.mongodb.changes import BATCH, Changes
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import check_room
from ratus_engines.mongodb.errors import is_passing, may_have_happened, refusal
from ratus_engines.mongodb.holds import Holds
from ratus_engines.mongodb.lanes import Lanes
from ratus_engines.mongodb.pace import records
from ratus_engines.mongodb.signals import Signals
from ratus_engines.mongodb.uses import Uses

Answer = TaskRecord | RatusError

_OPERATION = "commit"

# Bytes of payloads and results that are converted together, one commit by itself excepted.
_PART_BYTES = 64 * 1024

# Commits of a batch that go one by one, at the same time.
_AT_ONCE = 16

# Commits that are remembered because it is not known whether they were applied, at most: those of some
# seconds of an outage, in a few megabytes.
_MOST_UNANSWERED = 10_000


class Commits:
    """Applies commits; ``retry`` and ``random`` are for the backoff of those that report a failure."""

    def __init__(
        self,
        deployment: Deployment,
        changes: Changes,
        signals: Signals,
        *,
        retry: RetryDefaults,
        random: Callable[[], float],
        uses: Uses,
        lanes: Lanes,
        holds: Holds,
    ) -> None:
        self._uses = uses
        self._lanes = lanes
        self._holds = holds
        self._deployment = deployment
        self._changes = changes
        self._signals = signals
        self._retry = retry
        self._random = random
        self._unanswered = _Unanswered()

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[Answer]:
        """Apply the commits in order. Returns for each the task as it then is, or why it is refused.

        Raises errors that concern all of them (`ServiceUnavailable`, above all); some may be applied then.
        """
        if len(commits) == 1:
            with self._deployment.limited():
                return [await self._one(commits[0], now)]
        answers: dict[int, Answer] = {}
        for part in _parts(commits):
            with self._deployment.limited():
                answers |= await self._part(part, now)
        return [answers[number] for number in range(len(commits))]

    async def _part(self, commits: dict[int, CommitRecord], now: int) -> dict[int, Answer]:
        """Apply commits with a nonce, the only ones to their task, all at once; the others one by one."""
        times = Counter(commit.id for commit in commits.values())
        together = {
            n: commit
            for n, commit in commits.items()
            if commit.nonce and times[commit.id] == 1 and commit.hold is None
        }
        answers = await self._together(together, now)
        rest = {number: None for number in commits if number not in answers}
        return answers | await self._each(commits, rest, now)

    async def _each(
        self, commits: dict[int, CommitRecord], tried: Mapping[int, Change | None], now: int
    ) -> dict[int, Answer]:
        """Apply the commits with the numbers in ``tried`` one by one.

        Several run at the same time, but those to one task in order. ``tried`` as in `_one`.
        """
        answers: dict[int, Answer] = {}
        by_task: dict[str, list[int]] = {}
        for number in tried:
            by_task.setdefault(commits[number].id, []).append(number)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def in_order(numbers: Sequence[int]) -> None:
            for number in numbers:
                async with slots:
                    answers[number] = await self._one(commits[number], now, tried[number])

        # All are tried, even if one fails, so that it is known of each whether it may have been applied.
        errors = await asyncio.gather(*map(in_order, by_task.values()), return_exceptions=True)
        for error in filter(None, errors):
            raise error
        return answers

    # ---- one -------------------------------------------------------------------------------------

    async def _one(self, commit: CommitRecord, now: int, tried: Change | None = None) -> Answer:
        """Apply one commit. ``tried``: the change that was written for it before, perhaps with success."""
        seen: list[TaskRecord] = []
        try:
            if commit.hold is None:
                task = await self._apply(commit, now, tried, seen)
            else:
                task = await self._apply_with_hold(commit, now, seen)
        except (Conflict, NotFound, BadRequest, PayloadTooLarge) as error:
            return error
        except (PyMongoError, InvalidDocument) as error:
            if (own := refusal(error)) is None:
                raise
            return own
        before = seen[-1] if seen else structs.replace(task, state=ACTIVE, nonce=commit.nonce)
        await self._lanes.changed([(before, task)])
        self._signals.notify([task])
        return task

    async def _apply_with_hold(self, commit: CommitRecord, now: int, seen: list[TaskRecord]) -> TaskRecord:
        """Apply a commit that holds what its task was claimed from, from before it is applied."""
        assert commit.hold is not None
        task = await self._changes.read(commit.id)
        if task is None:
            raise NotFound
        transitions.commit(task, commit, now, self._retry, self._random)  # raises where it is refused
        async with self._holds.held(task, now, now + commit.hold):
            return await self._apply(commit, now, None, seen)

    async def _apply(
        self, commit: CommitRecord, now: int, tried: Change | None, seen: list[TaskRecord]
    ) -> TaskRecord:
        """Apply the commit, twice if need be: an answer may get lost, or a member step down.

        Where the task had to be read to decide, it is appended to ``seen`` as it was before.

        A commit under a nonce takes effect once. A second try that is refused asks whether the first was
        applied; so does a later request for the same commit, whose first one was answered with an error.
        """
        known = self._unanswered.get(commit)
        decided: list[Change] = [] if tried is None else [tried]
        may_be_done = tried is not None
        for last in (False, True):
            try:
                task = await self._try(commit, now, decided, seen)
            except Conflict:
                done = await self._confirmed(commit, now) if may_be_done else None
                if done is None and known is not None:
                    done = await self._confirmed(commit, known)
                if done is None:
                    raise
                for change in decided[:1]:
                    self._changes.count(done.topic, change)
                task = done
            except Exception as error:
                if not commit.nonce or not may_have_happened(error):
                    raise
                may_be_done = True
                if last or not is_passing(error):
                    self._unanswered.add(commit, now)
                    raise
                continue
            self._unanswered.remove(commit)
            return task
        raise AssertionError("the second try returns or raises")

    async def _confirmed(self, commit: CommitRecord, now: int) -> TaskRecord | None:
        """The task, if this commit was applied to it at ``now`` and a majority has that; else ``None``."""
        members: dict[str, Any] = {"committed": now}
        if commit.state is not None:
            members["state"] = commit.state
        return await self._changes.confirm(_OPERATION, commit.id, members, {"nonce": {"$ne": commit.nonce}})

    async def _try(
        self, commit: CommitRecord, now: int, decided: list[Change], seen: list[TaskRecord]
    ) -> TaskRecord:
        """Apply the commit. Each change is appended to ``decided`` before it is written."""
        # Where the task came from matters to lanes, and a nonce says that it was active.
        from_where = bool(commit.topic or not commit.nonce) and bool(await self._uses.all())
        if transitions.depends_on_task(commit) or from_where:

            def decide(task: TaskRecord) -> Change:
                decided.append(transitions.commit(task, commit, now, self._retry, self._random))
                seen.append(task)
                if _brings_values(commit):
                    check_room(task, decided[-1])
                return decided[-1]

            task = await self._changes.decide(_OPERATION, commit.id, decide, whole=_brings_values(commit))
        else:
            decided.append(transitions.commit(None, commit, now, self._retry, self._random))
            task = await self._changes.change(_OPERATION, commit.id, decided[-1])
            if task is None and commit.nonce:
                raise transitions.refusal(await self._changes.read(commit.id, whole=False), decided[-1])
        if task is None:
            raise NotFound
        return task

    # ---- many ------------------------------------------------------------------------------------

    async def _together(self, commits: dict[int, CommitRecord], now: int) -> dict[int, Answer]:
        """Apply commits all at once. Commits without an answer here have to be applied one by one."""
        if not commits:
            return {}
        ids = [commit.id for commit in commits.values()]
        cursor = self._deployment.current.find({"_id": {"$in": ids}})
        found = {task.id: task for task in await records(cursor)}
        answers: dict[int, Answer] = {}
        decided: dict[int, tuple[TaskRecord, Change]] = {}
        for number, commit in commits.items():
            task = found.get(commit.id)
            if task is None:
                answers[number] = NotFound()
                continue
            try:
                change = transitions.commit(task, commit, now, self._retry, self._random)
                if _brings_values(commit):
                    check_room(task, change)
            except Conflict as error:
                if self._unanswered.get(commit) is None:  # else its own success may be why
                    answers[number] = error
                continue
            except (BadRequest, PayloadTooLarge) as error:
                answers[number] = error
                continue
            decided[number] = task, change
        try:
            count, tasks, refused = await self._changes.change_many(list(decided.values()))
        except PyMongoError as error:
            if not is_passing(error):
                raise
            # Any of them may have been written: each is tried again by itself, which finds out.
            return answers | await self._each(commits, {n: change for n, (_, change) in decided.items()}, now)
        numbers = list(decided)
        answers |= {numbers[at]: error for at, error in refused.items()}
        written = {numbers[at]: task for at, task in tasks.items()}
        if count < len(written):
            written = await self._certain(written, commits, now)
        await self._lanes.changed([(decided[number][0], task) for number, task in written.items()])
        for number, task in written.items():
            self._changes.count(task.topic, decided[number][1])
        self._signals.notify(written.values())
        return {**answers, **written}

    async def _certain(
        self, written: dict[int, TaskRecord], commits: dict[int, CommitRecord], now: int
    ) -> dict[int, TaskRecord]:
        """Those of the tasks to which the commit was applied, as they are in the database."""
        ids = [task.id for task in written.values()]
        cursor = self._deployment.tasks.find({"_id": {"$in": ids}})
        found = {task.id: task for task in await records(cursor)}
        return {
            number: found[task.id]
            for number, task in written.items()
            if task.id in found and _was_committed(found[task.id], commits[number], now)
        }


def _parts(commits: Sequence[CommitRecord]) -> Iterator[dict[int, CommitRecord]]:
    """The commits by their places, as many at a time as take some milliseconds to convert."""
    part: dict[int, CommitRecord] = {}
    size = 0
    for number, commit in enumerate(commits):
        size += len(commit.payload or b"") + len(commit.result or b"")
        if part and (len(part) == BATCH or size > _PART_BYTES):
            yield part
            part, size = {}, len(commit.payload or b"") + len(commit.result or b"")
        part[number] = commit
    if part:
        yield part


def _brings_values(commit: CommitRecord) -> bool:
    """Whether the commit may make the task too large: other members than these have room in every task."""
    return commit.payload is not None or commit.result is not None


class _Unanswered:
    """The times of commits with a nonce that may have been applied, though they were answered with an error.

    A client that repeats such a commit must not be refused for its own success.
    """

    def __init__(self) -> None:
        self._made_at: dict[tuple[str, str], int] = {}

    def add(self, commit: CommitRecord, now: int) -> None:
        while len(self._made_at) >= _MOST_UNANSWERED:
            del self._made_at[next(iter(self._made_at))]
        self._made_at.setdefault((commit.id, commit.nonce), now)

    def get(self, commit: CommitRecord) -> int | None:
        return self._made_at.get((commit.id, commit.nonce)) if self._made_at else None

    def remove(self, commit: CommitRecord) -> None:
        if self._made_at:
            self._made_at.pop((commit.id, commit.nonce), None)


def _was_committed(task: TaskRecord, commit: CommitRecord, now: int) -> bool:
    """Whether this commit was applied, as far as the task shows: the nonce is gone, the times are equal."""
    return (
        task.nonce != commit.nonce
        and task.committed is not None
        and task.committed // 1_000 == now // 1_000
        and commit.state in (None, task.state)
    )
