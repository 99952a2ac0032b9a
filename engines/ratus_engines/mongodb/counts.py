"""How many tasks a topic has: counted where that is quick, kept where it is not.

MongoDB counts some millions of keys a second. Up to `EXACT` tasks are counted for each request. Beyond that a
number is kept: a request gets it at once, and starts a new count in the background. Counting takes a
twentieth of the time at most. A request waits for it only where the number is older than `LONGEST`.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from pymongo.errors import PyMongoError

from ratus.core import turns
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, ARCHIVED, PENDING, TopicInfo, TopicSettings
from ratus.core.turns import Closing, Reason
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.deployment import Deployment, background, stop
from ratus_engines.mongodb.documents import Document, record
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.errors import reason
from ratus_engines.mongodb.lanes import Lane, is_building
from ratus_engines.mongodb.uses import Use

logger = logging.getLogger("ratus.engines.mongodb")

# Tasks of a topic that are counted for each request, at most: that takes a few milliseconds.
EXACT = 20_000

# Seconds for which a kept number is given without a new count, and without waiting for the new count.
SHORTEST, LONGEST = 1.0, 10.0

# After a count, no other begins for so many times as long as it took.
_SHARE = 20

# Numbers kept; each belongs to a topic of more than `EXACT` tasks, and there are not many of those.
_MOST_KEPT = 10_000


_NEVER = float("-inf")

_DEFAULTS = TopicSettings()


def closing(settings: TopicSettings, own: Lane, use: Use, active: int, now: int) -> Closing | None:
    """Why a topic hands out nothing as a whole."""
    if settings.paused:
        return Closing(Reason.PAUSED)
    found = turns.closing(settings.limits, active, own.allowed, own.held, now)
    if found is None and is_building(settings.limits, use):
        return Closing(Reason.BUILDING)
    return found


class _Kept:
    __slots__ = ("counting", "made_at", "rest", "value")

    def __init__(self) -> None:
        self.value = 0
        self.made_at = _NEVER
        self.rest = SHORTEST
        self.counting: asyncio.Task[None] | None = None


class Counts:
    """Counts tasks of topics."""

    def __init__(self, deployment: Deployment, due: Due) -> None:
        self._deployment = deployment
        self._is_due = due
        self._kept: dict[tuple[str, str], _Kept] = {}

    async def close(self) -> None:
        """Stop counting."""
        for kept in list(self._kept.values()):
            await stop(kept.counting)

    async def info(
        self, topic: str, settings: TopicSettings, own: Lane, use: Use, lanes: int, now: int
    ) -> TopicInfo | None:
        """The numbers of a topic at time ``now``; ``None`` where it has no task and no setting.

        ``own`` is the topic as a whole, as it is kept among its lanes, ``use`` what is kept of it, and
        ``lanes`` their number.
        Raises `ServiceUnavailable` when the first count of a large topic takes too long, and driver errors.
        """
        states = await self._states(topic)
        if not any(states) and settings == _DEFAULTS:
            return None
        due, oldest = await self._due(topic, now) if states[PENDING] else (0, None)
        closed = closing(settings, own, use, states[ACTIVE], now)
        return TopicInfo(topic, states, due, oldest, settings.paused, settings.limits, closed, lanes)

    async def _states(self, topic: str) -> tuple[int, int, int, int]:
        pipeline: list[Document] = [
            {"$match": {"topic": topic}},
            {"$limit": EXACT},
            {"$group": {"_id": "$state", "count": {"$sum": 1}}},
        ]
        found = await self._deployment.aggregate(pipeline, indexes.LISTS)
        counts = {int(group["_id"]): int(group["count"]) for group in found}
        if sum(counts.values()) >= EXACT:
            states = range(ARCHIVED + 1)
            numbers = await asyncio.gather(*(self._count_state(topic, state) for state in states))
            counts = dict(zip(states, numbers, strict=True))
        return counts.get(0, 0), counts.get(1, 0), counts.get(2, 0), counts.get(3, 0)

    async def _count_state(self, topic: str, state: int) -> int:
        condition = {"topic": topic, "state": state}
        count = await self._count(condition, indexes.LISTS, EXACT)
        return count if count < EXACT else await self._large(f"state {state}", condition, indexes.LISTS)

    async def _due(self, topic: str, now: int) -> tuple[int, int | None]:
        condition = {"topic": topic, "state": PENDING, **self._is_due.scheduled(now)}
        pipeline: list[Document] = [
            {"$match": condition},
            {"$limit": EXACT},
            {"$group": {"_id": None, "count": {"$sum": 1}, "scheduled": {"$min": "$scheduled"}}},
        ]
        found = await self._deployment.aggregate(pipeline, indexes.CLAIMS)
        if not found:
            return 0, None
        count = int(found[0]["count"])
        if count < EXACT:
            return count, record({"scheduled": found[0]["scheduled"]}).scheduled
        first = await self._deployment.tasks.find_one(
            condition,
            {"scheduled": 1, "_id": 0},
            sort=[("scheduled", 1)],
            hint=self._deployment.hint(indexes.SCHEDULED),
        )
        oldest = None if first is None else record(first).scheduled
        return await self._large("due", condition, indexes.CLAIMS), oldest

    # ---- large numbers ---------------------------------------------------------------------------

    async def _large(self, what: str, condition: Mapping[str, Any], index: str) -> int:
        key = condition["topic"], what
        kept = self._kept.get(key)
        if kept is None:
            if len(self._kept) >= _MOST_KEPT:
                self._kept = {k: v for k, v in self._kept.items() if v.counting is not None}
            kept = self._kept[key] = _Kept()
        age = time.monotonic() - kept.made_at
        if age >= kept.rest and kept.counting is None:
            kept.counting = background(self._recount(kept, condition, index))
        if age >= max(LONGEST, 2 * kept.rest) and kept.counting is not None:
            await asyncio.wait([kept.counting], timeout=self._deployment.limit)
            if kept.made_at == _NEVER:
                raise ServiceUnavailable("the tasks of this topic are being counted; ask again")
        return kept.value

    async def _recount(self, kept: _Kept, condition: Mapping[str, Any], index: str) -> None:
        started = time.monotonic()
        try:
            kept.value = await self._count(condition, index, None)
        except PyMongoError as error:
            # A waiting request gets an old number or runs out of time; the next request starts a new count.
            logger.warning("cannot count the tasks of a large topic: %s", reason(error))
        else:
            kept.made_at = time.monotonic()
            kept.rest = max(SHORTEST, _SHARE * (kept.made_at - started))
        finally:
            kept.counting = None

    async def _count(self, condition: Mapping[str, Any], index: str, most: int | None) -> int:
        limit = [] if most is None else [{"$limit": most}]
        found = await self._deployment.aggregate([{"$match": condition}, *limit, {"$count": "count"}], index)
        return int(found[0]["count"]) if found else 0
