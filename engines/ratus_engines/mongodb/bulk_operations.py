"""Operations on many tasks: recovering, archiving, releasing and deleting them, some hundreds at a time.

Each part has the time limit of one operation; the whole takes as long as there is something to do.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from ratus.core import transitions
from ratus.core.errors import Conflict, PayloadTooLarge
from ratus.core.quoting import quoted
from ratus.core.records import ACTIVE, COMPLETED, TaskRecord
from ratus.core.transitions import Change, RetryDefaults
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import BATCH, Changes
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import WITHOUT_VALUES, Document, conditions, record, update
from ratus_engines.mongodb.lanes import Lanes
from ratus_engines.mongodb.pace import records
from ratus_engines.mongodb.signals import Signals
from ratus_engines.mongodb.uses import Uses

logger = logging.getLogger("ratus.engines.mongodb")

# Any text: with it, the bounds of an index that begins with the topic are "every topic, and of each the tasks
# up to now", and MongoDB jumps from topic to topic.
_ANY_TOPIC = {"$gte": ""}


# By state: the index for tasks of that state which lack a member that the state needs.
_INCOMPLETE = {ACTIVE: indexes.DEADLINE, COMPLETED: indexes.RETENTION}


def without_consumer(change: Change) -> Change:
    """The change, which also removes the consumer."""
    return Change(change.require, {**change.set, "consumer": ""}, change.attempts, change.events)


def _decided(
    tasks: Iterable[TaskRecord], decide: Callable[[TaskRecord], Change]
) -> Iterator[tuple[TaskRecord, Change]]:
    """The tasks that may be changed, each with its change; others are left out.

    A query may find a document of another program by a value that cannot be read as what it should be (a list
    of dates). Such a task is not changed.
    """
    for task in tasks:
        with contextlib.suppress(Conflict):
            yield task, decide(task)


class BulkOperations:
    """Carries out operations on many tasks. ``retry`` and ``random`` are for the backoff of lapsed claims."""

    def __init__(
        self,
        deployment: Deployment,
        changes: Changes,
        signals: Signals,
        *,
        retry: RetryDefaults,
        random: Callable[[], float],
        lanes: Lanes,
        uses: Uses,
    ) -> None:
        self._lanes = lanes
        self._uses = uses
        self._deployment = deployment
        self._changes = changes
        self._signals = signals
        self._retry = retry
        self._random = random

    async def lapse(self, now: int, *, topic: str | None = None, most: int | None = None) -> int:
        """Take back claims whose deadline is not after now, in one topic or in all. Returns how many."""
        condition = conditions(transitions.lapsed(now))
        index = indexes.DEADLINE
        if topic is not None:
            condition["topic"] = topic
            index = indexes.LAPSES
        return await self._change_all(
            condition, index, lambda task: transitions.lapse(task, now, self._retry, self._random), most
        )

    async def expire(self, now: int, *, topic: str | None = None, most: int | None = None) -> int:
        """Archive pending tasks whose ``expires`` is not after now, in one topic or all. Returns how many."""
        condition: Document = {
            "topic": _ANY_TOPIC if topic is None else topic,
            **conditions(transitions.expired(now)),
        }
        return await self._change_all(
            condition, indexes.EXPIRIES, lambda task: transitions.expire(task, now), most
        )

    async def release(self, topic: str) -> int:
        """Release the active tasks of the topic. Returns how many."""
        count = 0
        condition = {"topic": topic, "state": ACTIVE}
        async for tasks in self._walk(condition, indexes.ACTIVE_TOPIC, WITHOUT_VALUES):
            with self._deployment.limited():
                count += await self._apply(
                    [(task, transitions.release(task.nonce or None)) for task in map(record, tasks)]
                )
        return count

    async def _change_all(
        self, condition: Document, index: str, decide: Callable[[TaskRecord], Change], most: int | None
    ) -> int:
        """Change tasks until none meets the condition, or until ``most`` were looked at. Returns how many."""
        count = looked = 0
        progress = _Progress()
        while most is None or looked < most:
            limit = BATCH if most is None else min(BATCH, most - looked)
            with self._deployment.limited():
                found = await self._deployment.current.find(
                    condition, WITHOUT_VALUES, limit=limit, hint=self._deployment.hint(index)
                ).to_list()
                done = await self._apply(list(_decided(map(record, found), decide)))
            count += done
            looked += len(found)
            if len(found) < limit or not progress.goes_on(found, done):
                break
        return count

    async def _apply(self, decided: Sequence[tuple[TaskRecord, Change]]) -> int:
        count, tasks, refused = await self._changes.change_many(decided)
        if count:
            await self._follow(decided, tasks, count)
            self._signals.notify(tasks.values())
        # Where another server changed some of them first, the database does not say which. So the number of
        # events is exact, but their topics and kinds may be those of tasks that were not changed here.
        for at, task in list(tasks.items())[:count]:
            self._changes.count(task.topic, decided[at][1])
        shorter = []
        for at, error in refused.items():
            task, change = decided[at]
            if task.consumer and "consumer" not in change.set and isinstance(error, PayloadTooLarge):
                # It was claimed by a consumer whose name left no room for an error or an outcome.
                shorter.append((task, without_consumer(change)))
            else:
                logger.error("the task %s stays as it is: %s", quoted(task.id), error.detail)
        return count + (await self._apply(shorter) if shorter else 0)

    async def _follow(
        self, decided: Sequence[tuple[TaskRecord, Change]], tasks: Mapping[int, TaskRecord], count: int
    ) -> None:
        """Write to the lanes what became of these tasks."""
        if not await self._uses.all():
            return
        after = {task.id: task for task in tasks.values()}
        if count < len(tasks):
            # Another server changed some of them first, and what it did is followed there.
            found = await records(
                self._deployment.current.find({"_id": {"$in": list(after)}}, WITHOUT_VALUES)
            )
            there = {task.id: task for task in found}
            after = {task_id: task for task_id, task in there.items() if task_id in after}
        pairs = [(task, after[task.id]) for task, _ in decided if task.id in after]
        await self._lanes.changed(pairs)

    # ---- deleting --------------------------------------------------------------------------------

    async def delete(self, topic: str | None = None) -> int:
        """Delete the tasks that are there, in one topic or in all. Returns how many."""
        condition: Document = {} if topic is None else {"topic": topic}
        index = "_id_" if topic is None else indexes.TOPIC
        count = 0
        projection = WITHOUT_VALUES if await self._uses.all() else {"_id": 1}
        async for tasks in self._walk(condition, index, projection):
            with self._deployment.limited():
                ids = [task["_id"] for task in tasks]
                count += await self._delete(ids, condition)
                if projection is WITHOUT_VALUES:
                    await self._follow_deletion({task["_id"]: record(task) for task in tasks})
        return count

    async def _follow_deletion(self, tasks: Mapping[str, TaskRecord]) -> None:
        left = self._deployment.current.find({"_id": {"$in": list(tasks)}}, {"_id": 1})
        there = {found["_id"] for found in await left.to_list()}
        await self._lanes.changed([(task, None) for task_id, task in tasks.items() if task_id not in there])

    async def purge(self, before: int) -> int:
        """Delete the completed tasks that were committed at or before that time. Returns how many."""
        condition = conditions(transitions.purgeable(before))
        count = 0
        progress = _Progress()
        while True:
            with self._deployment.limited():
                found = await self._deployment.current.find(
                    condition, {"_id": 1}, limit=BATCH, hint=self._deployment.hint(indexes.RETENTION)
                ).to_list()
                done = await self._delete([task["_id"] for task in found], condition)
            count += done
            if len(found) < BATCH or not progress.goes_on(found, done):
                return count

    async def _delete(self, ids: Sequence[str], condition: Document) -> int:
        if not ids:
            return 0
        result = await self._deployment.tasks.delete_many({**condition, "_id": {"$in": ids}})
        if result.deleted_count:
            self._signals.deleted(ids)
        return result.deleted_count

    async def _walk(self, condition: Document, index: str, projection: Document) -> AsyncIterator[list[Any]]:
        """The documents that meet the condition, in one pass, some at a time."""
        hint = "_id_" if index == "_id_" else self._deployment.hint(index)
        cursor = self._deployment.current.find(condition, projection, hint=hint, batch_size=BATCH)
        try:
            while True:
                with self._deployment.limited():
                    found = await cursor.to_list(BATCH)
                if not found:
                    return
                yield found
        finally:
            await cursor.close()

    # ---- making whole ----------------------------------------------------------------------------

    async def adopt(self, now: int) -> None:
        """Complete tasks that a Ratus in Go stored without a member that their state needs.

        An active one gets a deadline, a completed one the time of its commit, as on an insert.
        """
        with self._deployment.limited():
            for change in transitions.completions(now):
                index = _INCOMPLETE[change.require["state"]]
                await self._deployment.tasks.update_many(
                    conditions(change.require), update(change), hint=self._deployment.hint(index)
                )


class _Progress:
    """Whether there is a point in looking for another batch of tasks.

    Where another server has changed a whole batch first, there may be more behind it. Tasks that cannot be
    changed are found again.
    """

    def __init__(self) -> None:
        self._unchanged: set[str] = set()

    def goes_on(self, found: Sequence[Mapping[str, Any]], done: int) -> bool:
        """After a batch of which ``done`` tasks were changed here."""
        if done:
            return True
        before, self._unchanged = self._unchanged, {task["_id"] for task in found}
        return self._unchanged != before
