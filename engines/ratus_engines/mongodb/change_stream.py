"""Follows what other servers do by a change stream, where the deployment has them.

A replica set and a sharded cluster have change streams. A single server has none: there a waiting request
looks for tasks now and then. The stream sends only what the listener needs of a change: an id, a state, a
topic. A second stream, which is opened once there is a topic in use, says in which topics a limit was eased.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import pymongo
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure, PyMongoError

from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING
from ratus_engines.mongodb.deployment import LIMIT, Deployment, background, stop
from ratus_engines.mongodb.errors import is_passing, reason
from ratus_engines.mongodb.signals import DELETED, Signals
from ratus_engines.mongodb.uses import Uses

logger = logging.getLogger("ratus.engines.mongodb")

# Seconds before the stream is opened again after it broke.
_PAUSE = 1.0

# Milliseconds for which the database waits for changes before it answers that there are none.
_AWAIT = 1_000

_FIELDS = "updateDescription.updatedFields"
_PIPELINE: list[Mapping[str, Any]] = [
    {
        "$match": {
            "$or": [
                {"operationType": {"$in": ["insert", "replace", "delete"]}},
                # Claims are left out: they make nothing available that a request waits for.
                {"operationType": "update", f"{_FIELDS}.state": {"$in": [PENDING, COMPLETED, ARCHIVED]}},
                {"operationType": "update", f"{_FIELDS}.scheduled": {"$exists": True}},
                {"operationType": "update", f"{_FIELDS}.topic": {"$exists": True}},
            ]
        }
    },
    {
        "$project": {
            "operationType": 1,
            "documentKey._id": 1,
            "fullDocument.topic": 1,
            "fullDocument.state": 1,
            f"{_FIELDS}.state": 1,
        }
    },
]

_LANES_PIPELINE: list[Mapping[str, Any]] = [
    {"$match": {"operationType": "update", f"{_FIELDS}.freed": {"$exists": True}}},
    {"$project": {"documentKey._id": 1, f"{_FIELDS}.freed": 1}},
]


class Watcher:
    """Follows the changes of all servers and notifies the listener."""

    def __init__(self, deployment: Deployment, signals: Signals, uses: Uses) -> None:
        self._deployment = deployment
        self._signals = signals
        self._uses = uses
        self._watching: asyncio.Task[None] | None = None
        self._watching_lanes: asyncio.Task[None] | None = None
        self.following = asyncio.Event()
        """Set while a stream is open."""
        self.following_lanes = asyncio.Event()
        """Set while the stream of lanes is open."""

    def open(self) -> None:
        """Start to follow changes in the background, as soon as the deployment can be reached."""
        self._watching = background(self._watch(self._follow, self._follows))
        self._watching_lanes = background(self._watch_lanes())

    async def close(self) -> None:
        await stop(self._watching)
        await stop(self._watching_lanes)

    def _follows(self, following: bool) -> None:
        self._signals.follow(following)
        (self.following.set if following else self.following.clear)()

    async def _watch_lanes(self) -> None:
        await self._uses.there.wait()
        await self._watch(self._follow_lanes, self._follows_lanes)

    def _follows_lanes(self, following: bool) -> None:
        (self.following_lanes.set if following else self.following_lanes.clear)()

    async def _watch(self, follow: Callable[[], Awaitable[None]], follows: Callable[[bool], None]) -> None:
        while True:
            try:
                await follow()
            except OperationFailure as error:
                if not is_passing(error) and not error.has_error_label("ResumableChangeStreamError"):
                    # Code 40573: a single server. Other deployments have other codes for it.
                    logger.info("waiting requests look for tasks now and then: %s", reason(error))
                    return
                logger.debug("the change stream broke: %s", reason(error))
            except PyMongoError as error:
                logger.debug("the change stream broke: %s", reason(error))
            except Exception:
                logger.exception("following changes failed; waiting requests look for tasks now and then")
                return
            finally:
                follows(False)
            await asyncio.sleep(_PAUSE)

    async def _follow_lanes(self) -> None:
        collection = self._collection(self._deployment.lanes.name)
        async with await collection.watch(_LANES_PIPELINE, max_await_time_ms=_AWAIT) as stream:
            self._follows_lanes(True)
            self._signals.missed()
            while stream.alive:
                change = await stream.try_next()
                if change is not None:
                    number = change["updateDescription"]["updatedFields"]["freed"]
                    self._signals.heard_freed(change["documentKey"]["_id"]["topic"], int(number))

    def _collection(self, name: str) -> AsyncCollection[dict[str, Any]]:
        """A collection with the client's own options, as change streams need them."""
        return self._deployment.client[self._deployment.tasks.database.name][name]

    async def _follow(self) -> None:
        collection = self._collection(self._deployment.tasks.name)
        async with await collection.watch(_PIPELINE, max_await_time_ms=_AWAIT) as stream:
            self._follows(True)
            while stream.alive:
                change = await stream.try_next()
                if change is not None:
                    await self._notify([change])

    async def _notify(self, changes: Sequence[Mapping[str, Any]]) -> None:
        unknown: list[str] = []
        for change in changes:
            task_id = change["documentKey"]["_id"]
            document = change.get("fullDocument")
            if document is not None:
                state, topic = document.get("state"), document.get("topic")
            else:
                state = change.get("updateDescription", {}).get("updatedFields", {}).get("state", PENDING)
                topic = None
            if change["operationType"] == "delete":
                state = DELETED
            settled = state in (COMPLETED, ARCHIVED, DELETED)
            at_once = settled or topic is not None
            if not self._signals.is_news(task_id, state, notified_at_once=at_once):
                continue
            if settled:
                self._signals.heard_settled(task_id)
            elif topic is not None:
                self._signals.available(topic)
            else:
                unknown.append(task_id)
        if unknown:
            with pymongo.timeout(LIMIT):
                found = await self._deployment.tasks.find(
                    {"_id": {"$in": unknown}, "state": {"$in": [PENDING, ACTIVE]}}, {"topic": 1}
                ).to_list()
            for topic in {document["topic"] for document in found}:
                self._signals.available(topic)
