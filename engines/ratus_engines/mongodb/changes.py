"""Carrying out changes of tasks whose ids are known: one of them, or many at once.

The observer is notified here of the events of a single change. Of many, the database says only how many were
made: the caller notifies it, since it knows what they have in common.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo import ReturnDocument, UpdateOne
from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError

from ratus.core import transitions
from ratus.core.errors import BadRequest, RatusError, ServiceUnavailable
from ratus.core.records import TaskRecord
from ratus.core.transitions import Change
from ratus.engine import Observer
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import WITHOUT_VALUES, Document, conditions, member, record, update
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import refusal
from ratus_engines.mongodb.fallbacks import Fallbacks

# Tries for one task that another client changes each time between reading and writing it: more often than
# this is no coincidence.
ATTEMPTS = 16

# Tasks that are read and written at once by what may concern millions.
BATCH = 500


def busy() -> ServiceUnavailable:
    """The error of an operation that was overtaken by other clients in each of its `ATTEMPTS`."""
    return ServiceUnavailable("others change the same tasks all the time; try again")


class Changes:
    """Guarded changes by id. ``observer`` gives the engine's observer as it is at the moment."""

    def __init__(
        self,
        deployment: Deployment,
        fallbacks: Fallbacks,
        observer: Callable[[], Observer | None],
        due: Due,
    ) -> None:
        self._deployment = deployment
        self._fallbacks = fallbacks
        self._observer = observer
        self._due = due

    def count(self, topic: str, change: Change) -> None:
        """Notify the observer of the events of a change, made to a task that is in this topic now."""
        if change.events and (observer := self._observer()) is not None:
            observer.record(topic, change.events)

    async def read(self, task_id: str, *, whole: bool = True) -> TaskRecord | None:
        """The task as it is at this moment, with payload and result or without."""
        projection = None if whole else WITHOUT_VALUES
        found = await self._deployment.current.find_one({"_id": task_id}, projection)
        return None if found is None else record(found)

    async def change(
        self, operation: str, task_id: str, change: Change, more: Mapping[str, Any] | None = None
    ) -> TaskRecord | None:
        """Apply a change if its guard and ``more`` conditions hold. Returns the changed task, or ``None``.

        On a collection that is sharded by topic this takes two steps: the topic has to be known.
        """
        tasks = self._deployment.tasks
        condition = {"_id": task_id, **conditions(change.require), **(more or {})}
        changes = update(change)
        self._due.mark(changes)

        async def atomic() -> TaskRecord | None:
            found = await tasks.find_one_and_update(
                condition, changes, return_document=ReturnDocument.AFTER, hint="_id_"
            )
            return None if found is None else record(found)

        async def optimistic() -> TaskRecord | None:
            for _ in range(ATTEMPTS):
                seen = await self._deployment.current.find_one({"_id": task_id}, {"topic": 1})
                if seen is None:
                    return None
                condition["topic"] = seen["topic"]
                if (task := await atomic()) is not None:
                    return task
                again = await self._deployment.current.find_one({"_id": task_id}, {"topic": 1})
                if again is None or again["topic"] == condition["topic"]:
                    return None
            raise busy()

        task = await self._fallbacks.run(operation, atomic, optimistic)
        if task is not None:
            self.count(task.topic, change)
        return task

    async def delete(self, task_id: str) -> TaskRecord | None:
        """Delete the task. Returns it as it was, without payload and result; ``None``: there was none."""
        tasks = self._deployment.tasks

        async def atomic() -> TaskRecord | None:
            found = await tasks.find_one_and_delete({"_id": task_id}, WITHOUT_VALUES, hint="_id_")
            return None if found is None else record(found)

        async def optimistic() -> TaskRecord | None:
            for _ in range(ATTEMPTS):
                seen = await self.read(task_id, whole=False)
                if seen is None:
                    return None
                found = await tasks.find_one_and_delete({"_id": task_id, "topic": seen.topic}, WITHOUT_VALUES)
                if found is not None:
                    return record(found)
            raise busy()

        return await self._fallbacks.run("delete", atomic, optimistic)

    async def confirm(
        self,
        operation: str,
        task_id: str,
        members: Mapping[str, Any],
        more: Mapping[str, Any] | None = None,
    ) -> TaskRecord | None:
        """The task, if it has these members, also on a majority of the replica set; otherwise ``None``.

        ``more``: conditions beside them. Where the answer to a write was lost, what is read now may be on one
        server alone, and be lost with that. So the same members are written again: that changes nothing, and
        is answered when a majority has all that came before.
        """
        return await self.change(operation, task_id, Change(dict(members), dict(members)), more)

    async def decide(
        self,
        operation: str,
        task_id: str,
        decision: Callable[[TaskRecord], Change],
        *,
        whole: bool = False,
    ) -> TaskRecord | None:
        """Read the task, decide on a change, and apply it; if the task changed meanwhile, do it all again.

        ``whole``: the decision needs payload and result. Returns the changed task, or ``None`` where there is
        none. Raises what ``decision`` raises, and `ServiceUnavailable` after `ATTEMPTS` tries.
        """
        for _ in range(ATTEMPTS):
            seen = await self.read(task_id, whole=whole)
            if seen is None:
                return None
            change = decision(seen)
            if (task := await self.change(operation, task_id, change)) is not None:
                return task
        raise busy()

    async def change_many(
        self, decided: Sequence[tuple[TaskRecord, Change]]
    ) -> tuple[int, dict[int, TaskRecord], dict[int, RatusError]]:
        """Apply changes, each by itself, to tasks that are as they were read; others are left alone.

        Returns how many changes were applied; by their places in ``decided``, the tasks as they are if all
        changes were applied, without the refused ones; and by their places, why changes were refused.
        """
        requests: dict[int, UpdateOne] = {}
        refused: dict[int, RatusError] = {}
        for at, (task, change) in enumerate(decided):
            try:
                changes = update(change)
            except BadRequest as error:
                refused[at] = error
                continue
            self._due.mark(changes)
            requests[at] = UpdateOne(_as_read(task, change), changes)
        count = 0
        if requests:
            try:
                result = await self._deployment.tasks.bulk_write(list(requests.values()), ordered=False)
                count = result.matched_count
            except BulkWriteError as error:
                count = error.details["nMatched"]
                refused |= _refused(error, list(requests))
        tasks = {at: applied(*each) for at, each in enumerate(decided) if at not in refused}
        return count, tasks, refused


def _refused(error: BulkWriteError, places: Sequence[int]) -> dict[int, RatusError]:
    """By place, why single writes were refused. Raises the driver's error where anything else failed, too."""
    refused: dict[int, RatusError] = {}
    for failure in error.details["writeErrors"]:
        cause = OperationFailure(failure["errmsg"], failure["code"])
        own = refusal(cause)
        if own is None:
            raise cause from error
        refused[places[failure["index"]]] = own
    for failure in error.details["writeConcernErrors"]:
        raise WriteConcernError(failure["errmsg"], failure["code"]) from error
    return refused


def applied(task: TaskRecord, change: Change) -> TaskRecord:
    """A copy of the task with the change, as the database keeps it."""
    task = copy.copy(task)
    transitions.apply(task, change)
    return task


def _as_read(task: TaskRecord, change: Change) -> Document:
    """The condition that a task is still as it was read. A sharded collection needs the topic in it."""
    return {
        "_id": task.id,
        "topic": task.topic,
        "state": task.state,
        "nonce": member("nonce", task.nonce),
        "attempts": member("attempts", task.attempts),
        **conditions(change.require),
    }
