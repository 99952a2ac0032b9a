"""Committing: each commit by itself in one guarded step, or a batch of them in two.

A batch of commits that each hold the nonce of a claim is read, decided and written at once. Where the
database says that fewer were written than were decided, what became of each is looked up.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence

from ratus import transitions
from ratus.errors import Conflict, NotFound, RatusError
from ratus.records import CommitRecord, TaskRecord
from ratus.transitions import Change, RetryDefaults
from ratus_engines.mongodb.changes import BATCH, Changes
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import record
from ratus_engines.mongodb.errors import is_passing
from ratus_engines.mongodb.signals import Signals

Answer = TaskRecord | RatusError

_OPERATION = "commit"

# Commits of a batch that go one by one, at the same time.
_AT_ONCE = 16


class Commits:
    """Applies commits; ``retry`` and ``random`` are for what fails."""

    def __init__(
        self,
        deployment: Deployment,
        changes: Changes,
        signals: Signals,
        *,
        retry: RetryDefaults,
        random: Callable[[], float],
    ) -> None:
        self._deployment = deployment
        self._changes = changes
        self._signals = signals
        self._retry = retry
        self._random = random

    async def commit(self, commits: Sequence[CommitRecord], now: int) -> list[Answer]:
        """Apply each in order. For each the task as it then is, or why not."""
        if len(commits) == 1:
            with self._deployment.limited():
                return [await self._one(commits[0], now)]
        answers: dict[int, Answer] = {}
        for start in range(0, len(commits), BATCH):
            part = dict(enumerate(commits[start : start + BATCH], start))
            with self._deployment.limited():
                answers |= await self._part(part, now)
        return [answers[number] for number in range(len(commits))]

    async def _part(self, commits: dict[int, CommitRecord], now: int) -> dict[int, Answer]:
        """Those that stand alone under a nonce at once; others, and tasks with several commits, in order."""
        times = Counter(commit.id for commit in commits.values())
        together = {n: commit for n, commit in commits.items() if commit.nonce and times[commit.id] == 1}
        answers = await self._together(together, now)
        rest: dict[str, list[int]] = {}
        for number, commit in commits.items():
            if number not in answers:
                rest.setdefault(commit.id, []).append(number)
        slots = asyncio.Semaphore(_AT_ONCE)

        async def in_order(numbers: Sequence[int]) -> None:
            for number in numbers:
                async with slots:
                    answers[number] = await self._one(commits[number], now)

        await asyncio.gather(*map(in_order, rest.values()))
        return answers

    # ---- one -------------------------------------------------------------------------------------

    async def _one(self, commit: CommitRecord, now: int) -> Answer:
        try:
            task = await self._apply(commit, now)
        except (Conflict, NotFound) as refusal:
            return refusal
        self._signals.tell([task])
        return task

    async def _apply(self, commit: CommitRecord, now: int) -> TaskRecord:
        decided: list[Change] = []
        try:
            return await self._try(commit, now, decided)
        except Exception as error:
            # A replica set is asked again by the driver; alone, a lost answer leaves only looking.
            if not commit.nonce or not is_passing(error):
                raise
            # What only one member has may be lost with it: it is not yet to be answered.
            found = await self._deployment.tasks.find_one({"_id": commit.id})
            task = None if found is None else record(found)
            if task is None or not _was_committed(task, commit, now):
                raise
            for change in decided[-1:]:
                self._changes.count(task.topic, change)
            return task

    async def _try(self, commit: CommitRecord, now: int, decided: list[Change]) -> TaskRecord:
        """Apply the commit; what was ``decided`` for that is put into the list before it is tried."""
        if transitions.depends_on_task(commit):

            def decide(task: TaskRecord) -> Change:
                transitions.check_nonce(task, commit.nonce)
                decided.append(transitions.commit(task, commit, now, self._retry, self._random))
                return decided[-1]

            task = await self._changes.decide(_OPERATION, commit.id, decide)
        else:
            decided.append(transitions.commit(None, commit, now, self._retry, self._random))
            task = await self._changes.change(_OPERATION, commit.id, decided[-1])
            if task is None and commit.nonce and await self._changes.read(commit.id, whole=False):
                # It has another nonce, or had when the commit came.
                raise Conflict("the task may have been modified by others")
        if task is None:
            raise NotFound
        return task

    # ---- many ------------------------------------------------------------------------------------

    async def _together(self, commits: dict[int, CommitRecord], now: int) -> dict[int, Answer]:
        """Answers for as many as are certain; the others have to go one by one."""
        if not commits:
            return {}
        ids = [commit.id for commit in commits.values()]
        cursor = self._deployment.current.find({"_id": {"$in": ids}})
        found = {task.id: task for task in map(record, await cursor.to_list())}
        answers: dict[int, Answer] = {}
        decided: dict[int, tuple[TaskRecord, Change]] = {}
        for number, commit in commits.items():
            task = found.get(commit.id)
            if task is None:
                answers[number] = NotFound()
                continue
            try:
                transitions.check_nonce(task, commit.nonce)
            except Conflict as refusal:
                answers[number] = refusal
                continue
            decided[number] = task, transitions.commit(task, commit, now, self._retry, self._random)
        count, tasks = await self._changes.change_many(list(decided.values()))
        written = dict(zip(decided, tasks, strict=True))
        if count < len(written):
            written = await self._certain(written, commits, now)
        for number, task in written.items():
            self._changes.count(task.topic, decided[number][1])
        self._signals.tell(written.values())
        return {**answers, **written}

    async def _certain(
        self, written: dict[int, TaskRecord], commits: dict[int, CommitRecord], now: int
    ) -> dict[int, TaskRecord]:
        """Those of the tasks that carry the commit, as they are in the database."""
        ids = [task.id for task in written.values()]
        cursor = self._deployment.tasks.find({"_id": {"$in": ids}})
        found = {task.id: task for task in map(record, await cursor.to_list())}
        return {
            number: found[task.id]
            for number, task in written.items()
            if task.id in found and _was_committed(found[task.id], commits[number], now)
        }


def _was_committed(task: TaskRecord, commit: CommitRecord, now: int) -> bool:
    """Whether this commit under a nonce was applied, as far as the task shows: at this very millisecond."""
    return (
        task.nonce != commit.nonce
        and task.committed is not None
        and task.committed // 1_000 == now // 1_000
        and commit.state in (None, task.state)
    )
