"""The two ways in which a claim is made: one task in one atomic step, or several by their ids.

One: `findAndModify` in the order of claiming. Where the deployment refuses that, the first due task is looked
up and claimed by its id if it is still due; where another server was faster, this is repeated.

Several: each is claimed by its id under a nonce of its own, in one update (a few for hundreds), and the tasks
are read back. Those that have one of these nonces are claimed, whatever happened on the way.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any

from msgspec import Struct
from pymongo import ReturnDocument

from ratus.core import transitions
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import Change
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import ATTEMPTS, BATCH, busy
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, date, record, update, updates
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import is_passing, may_have_happened
from ratus_engines.mongodb.fallbacks import POLL, Fallbacks
from ratus_engines.mongodb.labels import FIELD
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims
from ratus_engines.mongodb.pace import records
from ratus_engines.mongodb.topics import Topics

# Tasks of which one is picked at random, after a time is.
_ANY = 64

# An update has to stay below 16 MiB, and both the ids and the consumers in it come from clients.
_MOST_BYTES = 4 * 2**20


class Aim(Struct, frozen=True, gc=False):
    """A task to be claimed, for which request, and at what time."""

    task_id: str
    selection: Selection
    now: int

    @property
    def size(self) -> int:
        """Bytes that this claim takes in an update, at the most: the id twice, the consumer, and the rest."""
        return 4 * (2 * len(self.task_id) + len(self.selection.consumer)) + 500


class ClaimStatements:
    """Makes claims. ``nonces`` makes a nonce."""

    def __init__(
        self,
        deployment: Deployment,
        *,
        topics: Topics,
        lost: OrphanedClaims,
        fallbacks: Fallbacks,
        nonces: Callable[[], str],
        due: Due,
    ) -> None:
        self._deployment = deployment
        self._topics = topics
        self._lost = lost
        self._fallbacks = fallbacks
        self._nonces = nonces
        self._due = due

    # ---- one -------------------------------------------------------------------------------------

    async def one(
        self,
        condition: Document,
        selection: Selection,
        now: int,
        *,
        sort: Sequence[tuple[str, int]] = indexes.CLAIM_ORDER,
    ) -> TaskRecord | None:
        """Claim the first task that meets the condition, that of `Due` or a narrower one. ``None``: no task.

        Raises errors of the driver; a claim whose answer is lost is then released later.
        """
        topic: str = condition["topic"]

        async def atomic(nonce: str) -> TaskRecord | None:
            found = await self._deployment.tasks.find_one_and_update(
                condition,
                _update(selection, nonce, now),
                sort=sort,
                return_document=ReturnDocument.AFTER,
                hint=claim_hint(self._deployment, condition),
            )
            return None if found is None else record(found)

        async def optimistic(nonce: str) -> TaskRecord | None:
            async with self._topics.lock(topic):
                return await self._one_optimistically(condition, selection, now, nonce, sort)

        async def claim_under(nonce: str) -> TaskRecord | None:
            return await self._fallbacks.run(POLL, lambda: atomic(nonce), lambda: optimistic(nonce))

        return await self._found_again(topic, claim_under)

    async def _found_again(
        self, topic: str, claim_under: Callable[[str], Awaitable[TaskRecord | None]]
    ) -> TaskRecord | None:
        """Claim under a new nonce; when the answer is lost, look for the claim before making another one."""
        for last in (False, True):
            nonce = self._nonces()
            try:
                return await claim_under(nonce)
            except BaseException as error:
                if not may_have_happened(error):
                    raise
                if last or not is_passing(error):
                    self._lost.give_back([nonce], topic=topic)
                    raise
                found = await self._look([nonce], topic)
                if found:
                    return found[0]
        raise AssertionError("the second try returns or raises")

    async def _one_optimistically(
        self,
        condition: Document,
        selection: Selection,
        now: int,
        nonce: str,
        sort: Sequence[tuple[str, int]],
    ) -> TaskRecord | None:
        for attempt in range(ATTEMPTS):
            # After a try that came too late, a task a little further on is picked at random: otherwise all
            # servers would try the same one again.
            candidates = await self._deployment.current.find(
                condition,
                {"nonce": 1},
                sort=sort,
                limit=attempt + 1,
                hint=claim_hint(self._deployment, condition),
            ).to_list()
            if not candidates:
                return None
            candidate = random.choice(candidates)
            found = await self._deployment.tasks.find_one_and_update(
                {**condition, "_id": candidate["_id"], "nonce": candidate.get("nonce")},
                _update(selection, nonce, now),
                return_document=ReturnDocument.AFTER,
                hint="_id_",
            )
            if found is not None:
                return record(found)
        raise busy()

    async def by_id(
        self, condition: Document, task_id: str, selection: Selection, now: int, nonce: str
    ) -> TaskRecord | None:
        """Claim this task under this nonce, if it meets the condition, that of `Due`. ``None``: it does not.

        Raises errors of the driver; a claim whose answer is lost is then released later.
        """
        try:
            found = await self._deployment.tasks.find_one_and_update(
                {**condition, "_id": task_id},
                _update(selection, nonce, now),
                return_document=ReturnDocument.AFTER,
                hint="_id_",
            )
        except BaseException as error:
            if may_have_happened(error):
                made = await self._look([nonce], condition["topic"]) if is_passing(error) else []
                if made:
                    return made[0]
                self._lost.give_back([nonce], task_id=task_id)
            raise
        return None if found is None else record(found)

    async def in_order(self, condition: Document, selection: Selection, now: int) -> TaskRecord | None:
        """As `one`, in the order of the selection: of the highest priority the newest task, or any."""
        for _ in range(ATTEMPTS):
            first = await self._deployment.current.find_one(
                condition,
                {"priority": 1, "scheduled": 1},
                sort=indexes.CLAIM_ORDER,
                hint=claim_hint(self._deployment, condition),
            )
            if first is None:
                return None
            highest = {**condition, "priority": first.get("priority")}
            if selection.order == "random" and "_id" not in condition:
                task_id = await self._any(highest, first)
                if task_id is None:
                    continue
                highest["_id"] = task_id
            task = await self.one(highest, selection, now, sort=indexes.NEWEST_FIRST)
            if task is not None:
                return task
            # Other servers were faster, or that priority has no task any more.
        raise busy()

    async def _any(self, condition: Document, first: Mapping[str, Any]) -> str | None:
        """The id of one of the tasks that meet the condition, at or after any time of their schedule."""
        tasks, hint = self._deployment.current, claim_hint(self._deployment, condition)
        last = await tasks.find_one(condition, {"scheduled": 1}, sort=indexes.NEWEST_FIRST, hint=hint)
        if last is None:
            return None
        low, high = int(first["scheduled"]), int(last["scheduled"])
        start = date(random.randint(min(low, high), high) * 1_000)
        found = await tasks.find(
            {"$and": [condition, {"scheduled": {"$gte": start}}]},
            {"_id": 1},
            sort=indexes.DUE_FIRST,
            limit=_ANY,
            hint=hint,
        ).to_list()
        return random.choice(found)["_id"] if found else None

    # ---- several ---------------------------------------------------------------------------------

    async def several(self, topic: str, aims: Sequence[Aim]) -> dict[str, TaskRecord]:
        """Claim these tasks, each if it is still due. Returns those that were claimed, by id."""
        nonces = {self._nonces(): aim for aim in aims}
        # Callers that came together are served as of the moment when the last of them came.
        condition = self._due.condition(topic, max(aim.now for aim in aims))
        try:
            for part in _parts(nonces):
                await self._deployment.tasks.update_many(
                    {**condition, "_id": {"$in": list(part)}}, updates(part), hint="_id_"
                )
        except BaseException as error:
            if not is_passing(error):
                # Some parts may have been written: those before this one or, where the error is unknown, all.
                self._lost.give_back(nonces, topic=topic)
                raise
            tasks = await self._look(list(nonces), topic)
        else:
            ids = [aim.task_id for aim in aims]
            try:
                found = await records(self._deployment.current.find({"_id": {"$in": ids}}))
            except BaseException:
                self._lost.give_back(nonces, topic=topic)
                raise
            tasks = [task for task in found if task.nonce in nonces]
        return {task.id: task for task in tasks}

    async def _look(self, nonces: Sequence[str], topic: str) -> list[TaskRecord]:
        """The claims under these nonces that were made after all.

        The others may still be carried out late, so they are given back where they appear.
        """
        try:
            found = await self._lost.confirmed(topic, nonces)
        except BaseException:
            self._lost.give_back(nonces, topic=topic)
            raise
        here = {task.nonce for task in found}
        self._lost.give_back([nonce for nonce in nonces if nonce not in here], topic=topic)
        return found


def claim_hint(deployment: Deployment, condition: Document) -> str | None:
    """The index for a look-up of due tasks: by id, by a value of a label, or in the order of claiming."""
    if "_id" in condition:
        return "_id_"
    return deployment.hint(indexes.KEY_CLAIMS if FIELD in condition else indexes.CLAIMS)


def _parts(nonces: Mapping[str, Aim]) -> Iterator[dict[str, Change]]:
    """The changes by the ids of the tasks, as many at a time as one update may hold."""
    part: dict[str, Change] = {}
    size = 0
    for nonce, aim in nonces.items():
        size += aim.size
        if part and (size > _MOST_BYTES or len(part) == BATCH):
            yield part
            part, size = {}, aim.size
        part[aim.task_id] = _change(aim.selection, nonce, aim.now)
    yield part


def _change(selection: Selection, nonce: str, now: int) -> Change:
    return transitions.claim(
        consumer=selection.consumer, nonce=nonce, deadline=selection.deadline_at(now), now=now
    )


def _update(selection: Selection, nonce: str, now: int) -> Document:
    changes = update(_change(selection, nonce, now))
    assert isinstance(changes, dict), "a claim adds an attempt"
    return changes
