"""Holds: a consumer that is refused by a third party closes what its task was claimed from.

The hold is written before the task is changed, so that no other consumer gets a task in between, and is taken
back where the change is refused.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ratus.core.errors import Conflict, NotFound
from ratus.core.records import TaskRecord
from ratus_engines.mongodb.building import Building
from ratus_engines.mongodb.lanes import Lanes
from ratus_engines.mongodb.topics import Topics


class Holds:
    """Makes holds."""

    def __init__(self, topics: Topics, building: Building, lanes: Lanes) -> None:
        self._topics = topics
        self._building = building
        self._lanes = lanes

    @asynccontextmanager
    async def held(self, task: TaskRecord, now: int, until: int) -> AsyncIterator[None]:
        """Hold what the task is in until then, unless the block raises `Conflict` or `NotFound`."""
        limits = await self._topics.limits(task.topic, now)
        per = None if limits is None else limits.per
        await self._building.use(task.topic, () if per is None else (per.label,))
        before = await self._lanes.hold(task, per, until)
        try:
            yield
        except (Conflict, NotFound):
            await self._lanes.end_hold(task, per, until, before)
            raise
