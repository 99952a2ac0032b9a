"""Which topics have limits, holds or labels in use: what the servers have to know before they change a task.

Each such topic has a document of its own among the lanes. All of them together are few, so every server keeps
them in memory. What was read is used for a tenth of a second, as that of `ratus_engines.mongodb.topics` is: a
server that lets a topic come into use waits as long before it relies on the others. Reading them again is one
look at a counter, which is raised after every change; where it was not, nothing else is read.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from ratus.core.errors import RatusError
from ratus_engines.mongodb.deployment import Deployment, background, stop
from ratus_engines.mongodb.topics import AGING, FRESH

COUNTER = "uses"

PLACES = ""
"""Stands for the places of active tasks where names of labels stand that are being built."""


class Use(Struct, frozen=True, gc=False):
    """What is kept of a topic: lanes of these labels, and with ``keeps`` the places of active tasks.

    ``building``: those of the labels whose lanes have not all been made yet, and `PLACES`.
    """

    labels: tuple[str, ...] = ()
    building: tuple[str, ...] = ()
    keeps: bool = False

    def covers(self, labels: tuple[str, ...], *, keeps: bool) -> bool:
        """Whether all of this is kept already."""
        return set(self.labels).issuperset(labels) and (self.keeps or not keeps)


NOTHING = Use()


class Uses:
    """Knows the topics in use."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._uses: dict[str, Use] = {}
        self._counter: object = self
        self._read_at = -math.inf
        self._lock = asyncio.Lock()
        self._ahead: asyncio.Task[None] | None = None
        self.there = asyncio.Event()
        """Set once a topic in use was known."""

    async def close(self) -> None:
        """Stop reading ahead."""
        await stop(self._ahead)

    async def all(self) -> Mapping[str, Use]:
        """The topics in use. Raises errors of the driver, or `ServiceUnavailable`."""
        age = time.monotonic() - self._read_at
        if age >= FRESH:
            with self._deployment.limited():
                await self._read(FRESH)
        elif age > AGING and self._ahead is None:
            self._ahead = background(self._read_ahead())
        return self._uses

    async def of(self, topic: str) -> Use:
        """What is kept of a topic."""
        return (await self.all()).get(topic, NOTHING)

    async def _read_ahead(self) -> None:
        try:
            with self._deployment.limited():
                await self._read(AGING)
        except RatusError:
            pass  # the next request reads it itself, and gets the error
        finally:
            self._ahead = None

    async def _read(self, age: float) -> None:
        """Read what is older than ``age`` seconds."""
        async with self._lock:
            now = time.monotonic()
            if now - self._read_at < age:
                return
            lanes = self._deployment.lanes
            found = await lanes.find_one({"_id": COUNTER})
            counter = None if found is None else found["n"]
            if counter != self._counter:
                documents = await lanes.find({"use": True}, {"places": 0}).to_list() if found else []
                self._uses = {document["topic"]: _use(document) for document in documents}
                self._counter = counter
                if self._uses:
                    self.there.set()
            self._read_at = now

    async def announce(self, *, wait: bool = True) -> None:
        """After a change: let every server read it, and with ``wait``, wait until each goes by it."""
        await self._deployment.lanes.update_one({"_id": COUNTER}, {"$inc": {"n": 1}}, upsert=True)
        if wait:
            await asyncio.sleep(FRESH)
        self._read_at = -math.inf


def _use(document: Mapping[str, Any]) -> Use:
    return Use(
        tuple(document.get("labels") or ()),
        tuple(document.get("building") or ()),
        bool(document.get("keeps")),
    )
