"""Claims of one task each that come at the same time, carried out together.

Consumers that poll a topic at the same moment all try to claim its first task. MongoDB makes those that are
too late try again, so that 64 of them get half as much done as eight. Here a topic has one claim under way;
those that come meanwhile wait for its end and are then carried out together: the first due tasks are looked
up in the index alone, and each is claimed by its id for one of the callers.

Each caller gets a task that is due at its own time, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from bson.errors import InvalidDocument
from pymongo.errors import PyMongoError

from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.claim_statements import Aim, ClaimStatements
from ratus_engines.mongodb.deployment import Deployment, background
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import is_passing, reason
from ratus_engines.mongodb.orphaned_claims import OrphanedClaims

logger = logging.getLogger("ratus.engines.mongodb")

SingleClaim = Callable[[], Awaitable[TaskRecord | None]]

# Up to so many claims are as quick one by one, each in a single step.
_FEW = 3

# Claims that are carried out together, at most: a part of a second for the database, whatever a task holds.
_MANY = 128


class _Caller:
    """A request that waits for a task. ``alone`` claims one for it in a step of its own."""

    __slots__ = ("alone", "future", "now", "selection")

    def __init__(self, selection: Selection, now: int, alone: SingleClaim) -> None:
        self.selection = selection
        self.now = now
        self.alone = alone
        self.future: asyncio.Future[TaskRecord | None] = asyncio.get_running_loop().create_future()


class Combiner:
    """Carries out claims of one task each."""

    def __init__(
        self, deployment: Deployment, steps: ClaimStatements, lost: OrphanedClaims, due: Due
    ) -> None:
        self._deployment = deployment
        self._steps = steps
        self._lost = lost
        self._due = due
        # The callers that wait, by topic; a topic without a claim under way is not in here.
        self._waiting: dict[str, list[_Caller]] = {}
        self._serving: set[asyncio.Task[None]] = set()

    async def claim(
        self, topic: str, selection: Selection, now: int, alone: SingleClaim
    ) -> TaskRecord | None:
        """Claim the next due task of the topic; ``None``: none is due.

        ``alone`` claims it in a step of its own.
        """
        waiting = self._waiting.get(topic)
        if waiting is not None:
            caller = _Caller(selection, now, alone)
            waiting.append(caller)
            return await caller.future
        self._waiting[topic] = []
        try:
            return await alone()
        finally:
            if self._waiting[topic]:
                serving = background(self._serve(topic))
                self._serving.add(serving)
                serving.add_done_callback(self._serving.discard)
            else:
                del self._waiting[topic]

    async def _serve(self, topic: str) -> None:
        """Serve the callers that wait, and those that come meanwhile, until none is left."""
        waiting = self._waiting[topic]
        try:
            while waiting:
                callers = [caller for caller in waiting[:_MANY] if not caller.future.done()]
                del waiting[:_MANY]
                try:
                    with self._deployment.limited():
                        rest = callers if len(callers) <= _FEW else await self._together(topic, callers)
                        await asyncio.gather(*map(self._alone, rest))
                except Exception as error:
                    # Callers that came meanwhile get the error, too: they have waited, and would most likely
                    # wait again for the same error.
                    for caller in (*callers, *waiting):
                        if not caller.future.done():
                            caller.future.set_exception(error)
                    waiting.clear()
        finally:
            del self._waiting[topic]

    async def _together(self, topic: str, callers: Sequence[_Caller]) -> list[_Caller]:
        """Claim a task for each caller. Returns the callers for which it has to be tried once more."""
        latest = max(caller.now for caller in callers)
        found = await self._deployment.current.find(
            self._due.condition(topic, latest),
            self._due.projection(latest),
            sort=indexes.CLAIM_ORDER,
            limit=len(callers),
            hint=self._deployment.hint(indexes.CLAIMS),
        ).to_list()
        candidates = list(found)
        are_all = len(candidates) < len(callers)
        aims: list[Aim] = []
        aiming: list[_Caller] = []
        rest: list[_Caller] = []
        for caller in callers:
            at = next((n for n, each in enumerate(candidates) if self._due.is_due(each, caller.now)), None)
            if at is not None:
                aims.append(Aim(candidates.pop(at)["_id"], caller.selection, caller.now))
                aiming.append(caller)
            elif are_all:
                self._answer(caller, None)
            else:
                rest.append(caller)
        claimed: dict[str, TaskRecord] = {}
        try:
            claimed = await self._steps.several(topic, aims) if aims else {}
        except (PyMongoError, InvalidDocument) as error:
            if is_passing(error):
                raise
            logger.debug("claims cannot be made together, so each is made alone: %s", reason(error))
        for caller, aim in zip(aiming, aims, strict=True):
            task = claimed.get(aim.task_id)
            if task is None:  # another server was faster, or one of the claims cannot be made
                rest.append(caller)
            else:
                self._answer(caller, task)
        return rest

    async def _alone(self, caller: _Caller) -> None:
        try:
            task = await caller.alone()
        except (PyMongoError, InvalidDocument) as error:
            if is_passing(error):
                raise  # the other callers would get it as well
            if not caller.future.done():
                caller.future.set_exception(error)
        else:
            self._answer(caller, task)

    def _answer(self, caller: _Caller, task: TaskRecord | None) -> None:
        if not caller.future.done():
            caller.future.set_result(task)
        elif task is not None:  # the caller was cancelled while the database was at work
            self._lost.give_back([task.nonce], task_id=task.id)
