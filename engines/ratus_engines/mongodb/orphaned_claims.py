"""Claims whose answer never came: found again, or given back as soon as the database can be asked.

The connection broke, the time limit was over, or the caller was cancelled: the claim may have been made all
the same. Its nonce is known, since the server makes it. Without this module such a task would stay claimed
until its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable

import pymongo
from msgspec import Struct, structs
from pymongo.errors import PyMongoError

from ratus.core import transitions
from ratus.core.records import ACTIVE, TaskRecord
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.changes import Changes
from ratus_engines.mongodb.deployment import LIMIT, Deployment, background, stop
from ratus_engines.mongodb.errors import reason
from ratus_engines.mongodb.lanes import Lanes
from ratus_engines.mongodb.pace import records
from ratus_engines.mongodb.signals import Signals

logger = logging.getLogger("ratus.engines.mongodb")

# Seconds between two looks.
_PAUSE = 0.5

# A command whose connection broke may still be carried out, but not after its time limit.
_LATE = LIMIT + 1

# Claims that are looked for at most: a minute of them with one lost every millisecond. Older ones lapse at
# their deadline.
_MOST = 60_000


class _Lost(Struct, gc=False):
    """Where to look for a claim: in a topic, or at one task."""

    topic: str
    task_id: str
    since: float


class OrphanedClaims:
    """Looks for claims by their nonce."""

    def __init__(self, deployment: Deployment, changes: Changes, signals: Signals, lanes: Lanes) -> None:
        self._deployment = deployment
        self._lanes = lanes
        self._changes = changes
        self._signals = signals
        self._lost: dict[str, _Lost] = {}
        self._looking: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        """How many claims are being looked for."""
        return len(self._lost)

    async def find(self, topic: str, nonces: Iterable[str]) -> list[TaskRecord]:
        """The tasks of the topic that are claimed under these nonces."""
        condition = {"topic": topic, "state": ACTIVE, "nonce": {"$in": list(nonces)}}
        hint = self._deployment.hint(indexes.ACTIVE_TOPIC)
        return await records(self._deployment.current.find(condition, hint=hint))

    async def confirmed(self, topic: str, nonces: Iterable[str]) -> list[TaskRecord]:
        """The tasks of the topic that are claimed under these nonces on a majority of the replica set.

        As in `Changes.confirm`, the claims are written again, which changes nothing and waits for a majority.
        """
        found = [task.nonce for task in await self.find(topic, nonces)]
        if not found:
            return []
        await self._deployment.tasks.update_many(
            {"topic": topic, "state": ACTIVE, "nonce": {"$in": found}},
            {"$set": {"state": ACTIVE}},
            hint=self._deployment.hint(indexes.ACTIVE_TOPIC),
        )
        return await self.find(topic, found)

    def give_back(self, nonces: Iterable[str], *, topic: str = "", task_id: str = "") -> None:
        """Look for claims that no client has, for a while and in the background, and release those found.

        They are looked for in the topic, or at the task where ``task_id`` is given.
        """
        since = time.monotonic()
        for nonce in nonces:
            self._lost[nonce] = _Lost(topic, task_id, since)
        while len(self._lost) > _MOST:
            del self._lost[next(iter(self._lost))]
        if self._lost and self._looking is None:
            self._looking = background(self._look())

    async def close(self) -> None:
        """Stop looking, after one more look of a second at most."""
        if self._looking is not None:
            await stop(self._looking)
            try:
                with pymongo.timeout(1):
                    await self._look_once()
            except PyMongoError:
                pass  # what is left lapses at its deadline

    async def _look(self) -> None:
        try:
            while self._lost:
                await asyncio.sleep(_PAUSE)
                try:
                    with pymongo.timeout(LIMIT):
                        await self._look_once()
                except PyMongoError as error:
                    logger.debug("cannot look for lost claims: %s", reason(error))
        finally:
            self._looking = None

    async def _look_once(self) -> None:
        started = time.monotonic()
        topics: dict[str, list[str]] = {}
        for nonce, lost in list(self._lost.items()):
            if lost.task_id:
                await self._release(lost.task_id, nonce)
            else:
                topics.setdefault(lost.topic, []).append(nonce)
        for topic, nonces in topics.items():
            for task in await self.find(topic, nonces):
                await self._release(task.id, task.nonce)
        self._lost = {nonce: lost for nonce, lost in self._lost.items() if started - lost.since <= _LATE}

    async def _release(self, task_id: str, nonce: str) -> None:
        task = await self._changes.change("release", task_id, transitions.release(nonce))
        if task is not None:
            logger.info("released a claim whose answer was lost")
            self._lost.pop(nonce, None)
            await self._lanes.changed([(structs.replace(task, state=ACTIVE, nonce=nonce), task)])
            self._signals.notify([task])
