"""The two ways in which a claim is made: one task in one atomic step, or several by their ids.

One: `findAndModify` in the order of claiming. Where the deployment refuses that, the first due task is looked
up and claimed by its id if it is still due; where another server was faster, this is repeated.

Several: each is claimed by its id under a nonce of its own, in one update (a few for hundreds), and the tasks
are read back. Those that have one of these nonces are claimed, whatever happened on the way.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence

from msgspec import Struct
from pymongo import ReturnDocument

from ratus.core import transitions
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus.core.transitions import Change
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import ATTEMPTS, BATCH, busy
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, record, update, updates
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import is_passing, may_have_happened
from ratus_engines.mongodb.fallbacks import POLL, Fallbacks
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims
from ratus_engines.mongodb.pace import records
from ratus_engines.mongodb.topics import Topics

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

    async def one(self, condition: Document, selection: Selection, now: int) -> TaskRecord | None:
        """Claim the first task that meets the condition, that of `Due` or a narrower one. ``None``: no task.

        Raises errors of the driver; a claim whose answer is lost is then released later.
        """
        topic: str = condition["topic"]

        async def atomic(nonce: str) -> TaskRecord | None:
            found = await self._deployment.tasks.find_one_and_update(
                condition,
                _update(selection, nonce, now),
                sort=indexes.CLAIM_ORDER,
                return_document=ReturnDocument.AFTER,
                hint=self._hint(condition),
            )
            return None if found is None else record(found)

        async def optimistic(nonce: str) -> TaskRecord | None:
            async with self._topics.lock(topic):
                return await self._one_optimistically(condition, selection, now, nonce)

        async def claim_under(nonce: str) -> TaskRecord | None:
            return await self._fallbacks.run(POLL, lambda: atomic(nonce), lambda: optimistic(nonce))

        return await self._found_again(topic, claim_under)

    def _hint(self, condition: Document) -> str | None:
        return "_id_" if "_id" in condition else self._deployment.hint(indexes.CLAIMS)

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
        self, condition: Document, selection: Selection, now: int, nonce: str
    ) -> TaskRecord | None:
        for attempt in range(ATTEMPTS):
            # After a try that came too late, a task a little further on is picked at random: otherwise all
            # servers would try the same one again.
            candidates = await self._deployment.current.find(
                condition,
                {"nonce": 1},
                sort=indexes.CLAIM_ORDER,
                limit=attempt + 1,
                hint=self._hint(condition),
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
