"""Inserting and replacing tasks, one or many."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pymongo import InsertOne, UpdateOne
from pymongo.errors import BulkWriteError, DuplicateKeyError, OperationFailure

from ratus.core import transitions
from ratus.core.errors import InternalError, RatusError, ServiceUnavailable
from ratus.core.quoting import quoted
from ratus.core.records import ACTIVE, TaskRecord
from ratus_engines.mongodb.changes import ATTEMPTS, busy
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import WITHOUT_VALUES, encoded, replacement
from ratus_engines.mongodb.errors import FALLBACK_CODES, is_passing_code
from ratus_engines.mongodb.fallbacks import Fallbacks
from ratus_engines.mongodb.lanes import Lanes
from ratus_engines.mongodb.pace import AT_ONCE, Pace, records
from ratus_engines.mongodb.signals import Signals
from ratus_engines.mongodb.topics import Topics
from ratus_engines.mongodb.uses import Use, Uses

_DUPLICATE = 11000
_UPSERT = "upsert"

_UNCERTAIN = "MongoDB did not confirm in time that the tasks are stored; try again"

# Errors of single items that a message lists at most.
_MOST_SHOWN = 10


class Sequence64:
    """Gives out places in the order of creation: each number is larger than the last, and follows the clock.

    Between servers the order is as exact as their clocks. The numbers come from the machine's clock, in
    nanoseconds, not from the time of the request: where that stands still, two servers, or two starts of one,
    must not give the same number.
    """

    def __init__(self, clock: Callable[[], int] = time.time_ns) -> None:
        self._clock = clock
        self._last = 0

    def __call__(self) -> int:
        self._last = max(self._last + 1, self._clock())
        return self._last


class Inserts:
    """Inserts and upserts."""

    def __init__(
        self,
        deployment: Deployment,
        fallbacks: Fallbacks,
        signals: Signals,
        topics: Topics,
        sequence: Callable[[], int],
        uses: Uses,
        lanes: Lanes,
    ) -> None:
        self._uses = uses
        self._lanes = lanes
        self._deployment = deployment
        self._fallbacks = fallbacks
        self._signals = signals
        self._topics = topics
        self._sequence = sequence

    # ---- insert ----------------------------------------------------------------------------------

    async def insert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store the tasks whose id is new, in order. Returns true for each stored.

        Raises `BadRequest` or `PayloadTooLarge` for a task that cannot be stored; then none is.
        """
        documents = []
        uses = await self._uses.all()
        pace = Pace()
        for task in tasks:
            transitions.complete_on_insert(task, now)
            task.sequence = self._sequence()
            documents.append(encoded(task, in_use=_in_use(uses, task)))
            await pace.spend(len(documents[-1].raw))
        with self._deployment.limited():
            if len(tasks) == 1:
                try:
                    await self._deployment.tasks.insert_one(documents[0])
                    created = [True]
                except DuplicateKeyError:
                    created = [False]
            else:
                created = [True] * len(tasks)
                requests = [InsertOne(document) for document in documents]
                for number in await self._write(requests, tasks, _DUPLICATE):
                    created[number] = False
            stored = [task for task, new in zip(tasks, created, strict=True) if new]
            if uses:
                await self._lanes.changed([(None, task) for task in stored], marked=uses)
        self._stored(stored)
        return created

    async def _write(
        self, requests: Sequence[Any], tasks: Sequence[TaskRecord], *ignored: int
    ) -> Mapping[int, int]:
        """Write unordered. Returns, by place, the codes of items that failed with a code in ``ignored``.

        Raises an error that names items which failed with any other; the rest is written all the same.
        """
        failures: list[dict[str, Any]] = []
        errors: list[BulkWriteError] = []
        for start in range(0, len(requests), AT_ONCE):
            try:
                await self._deployment.tasks.bulk_write(requests[start : start + AT_ONCE], ordered=False)
            except BulkWriteError as error:
                failed = error.details["writeErrors"]
                if not failed:
                    raise
                failures += ({**failure, "index": start + failure["index"]} for failure in failed)
                errors.append(error)
        others = [failure for failure in failures if failure["code"] not in ignored]
        if others:
            raise _failed(others, tasks) from errors[0]
        if any(error.details["writeConcernErrors"] for error in errors):
            raise ServiceUnavailable(_UNCERTAIN) from errors[0]
        return {failure["index"]: failure["code"] for failure in failures}

    def _stored(self, tasks: Sequence[TaskRecord]) -> None:
        for task in tasks:
            if task.state == ACTIVE:
                self._topics.note(task.topic, deadline=task.deadline)
            elif task.expires is not None:
                self._topics.note(task.topic, expiry=task.expires)
        self._signals.notify(tasks, stored=True)

    # ---- upsert ----------------------------------------------------------------------------------

    async def upsert(self, tasks: Sequence[TaskRecord], now: int) -> list[bool]:
        """Store all tasks; each replaces the one with its id, if there is one. Returns true for each new."""
        last: dict[str, TaskRecord] = {}
        pace = Pace()
        for task in tasks:
            transitions.complete_on_insert(task, now)
            task.sequence = last[task.id].sequence if task.id in last else self._sequence()
            last[task.id] = task
            await pace.spend(0)
        distinct = list(last.values())
        with self._deployment.limited():
            uses = await self._uses.all()
            before = await self._there(distinct) if uses else {}
            new = await self._fallbacks.run(
                _UPSERT, lambda: self._replace(distinct), lambda: self._replace_optimistically(distinct)
            )
            if uses:
                await self._lanes.changed([(before.get(task.id), task) for task in distinct], marked=uses)
        self._stored(distinct)
        # Of several tasks with one id, the first counts as the new one.
        created = []
        for task in tasks:
            created.append(task.id in new)
            new.discard(task.id)
        return created

    async def _there(self, tasks: Sequence[TaskRecord]) -> dict[str, TaskRecord]:
        """Those of the tasks that are there, as they are before they are replaced."""
        ids = [task.id for task in tasks]
        cursor = self._deployment.current.find({"_id": {"$in": ids}}, WITHOUT_VALUES)
        return {task.id: task for task in await records(cursor)}

    async def _replace(self, tasks: Sequence[TaskRecord]) -> set[str]:
        """Replace or insert the tasks. Returns the ids that were new."""
        requests: list[UpdateOne] = []
        uses = await self._uses.all()
        pace = Pace()
        for task in tasks:
            requests.append(UpdateOne({"_id": task.id}, replacement(task, _in_use(uses, task)), upsert=True))
            await pace.spend(task.weight())
        new: set[str] = set()
        for start in range(0, len(tasks), AT_ONCE):
            end = start + AT_ONCE
            new |= await self._replace_some(tasks[start:end], requests[start:end])
        return new

    async def _replace_some(self, tasks: Sequence[TaskRecord], requests: Sequence[UpdateOne]) -> set[str]:
        new: set[str] = set()
        remaining = list(range(len(tasks)))
        for _ in range(ATTEMPTS):
            try:
                result = await self._deployment.tasks.bulk_write(
                    [requests[number] for number in remaining], ordered=False
                )
                upserted, failures = result.upserted_ids or {}, []
            except BulkWriteError as error:
                failures = error.details["writeErrors"]
                if not failures or error.details["writeConcernErrors"]:
                    raise ServiceUnavailable(_UNCERTAIN) from error
                upserted = {entry["index"]: entry["_id"] for entry in error.details["upserted"]}
            new.update(tasks[remaining[at]].id for at in upserted)
            for failure in failures:
                if failure["code"] in FALLBACK_CODES:
                    raise OperationFailure(failure["errmsg"], failure["code"])
            others = [failure for failure in failures if failure["code"] != _DUPLICATE]
            if others:
                raise _failed(others, [tasks[number] for number in remaining])
            if not failures:
                return new
            # Another request inserted the same id at the same moment, so the next try replaces that task.
            remaining = [remaining[failure["index"]] for failure in failures]
        raise busy()

    async def _replace_optimistically(self, tasks: Sequence[TaskRecord]) -> set[str]:
        return {task.id for task in tasks if await self._replace_one(task)}

    async def _replace_one(self, task: TaskRecord) -> bool:
        """Replace or insert a task where the topic is the shard key. Returns whether its id was new.

        A task that moves to another topic is deleted and inserted.
        """
        collection = self._deployment.tasks
        in_use = _in_use(await self._uses.all(), task)
        for _ in range(ATTEMPTS):
            old = await self._deployment.current.find_one({"_id": task.id}, {"topic": 1, "sequence": 1})
            if old is not None and old["topic"] == task.topic:
                condition = {"_id": task.id, "topic": task.topic}
                if (await collection.update_one(condition, replacement(task, in_use))).matched_count:
                    return False
                continue
            placed = True
            if old is not None:
                placed = "sequence" in old
                if placed:
                    task.sequence = int(old["sequence"])
                if not (await collection.delete_one({"_id": task.id, "topic": old["topic"]})).deleted_count:
                    continue
            try:
                await collection.insert_one(encoded(task, placed=placed, in_use=in_use))
            except DuplicateKeyError:
                continue
            return old is None
        raise busy()


def _in_use(uses: Mapping[str, Use], task: TaskRecord) -> Sequence[str]:
    use = uses.get(task.topic) if uses else None
    return () if use is None else use.labels


def _failed(failures: Sequence[Mapping[str, Any]], tasks: Sequence[TaskRecord]) -> RatusError:
    if all(is_passing_code(failure["code"]) for failure in failures):
        return ServiceUnavailable(f"MongoDB could not store all tasks: {failures[0]['errmsg']}; try again")
    shown = [
        f"item {failure['index']} (task {quoted(tasks[failure['index']].id)}): {failure['errmsg']}"
        for failure in sorted(failures, key=lambda failure: failure["index"])[:_MOST_SHOWN]
    ]
    more = f" and {len(failures) - len(shown)} more" if len(failures) > len(shown) else ""
    return InternalError(
        f"MongoDB refused {len(failures)} of the tasks, the others are stored: {'; '.join(shown)}{more}"
    )
