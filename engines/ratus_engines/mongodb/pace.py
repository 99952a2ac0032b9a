"""Long work on many tasks, in slices: the event loop goes on with other requests in between."""

from __future__ import annotations

import asyncio

from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.cursor import AsyncCursor

from ratus.core.records import TaskRecord
from ratus_engines.mongodb.documents import record

# Bytes of tasks, or of documents, that are converted at a time: some milliseconds, whatever is in them.
_SLICE = 64 * 1024

# Bytes that are added for each task: converting the smallest one takes ten microseconds.
_LEAST = 512

AT_ONCE = 1_000
"""Tasks that are passed to the driver at a time: it handles them in one step of some milliseconds."""


class Pace:
    """Counts the work of one operation, and lets other requests run after each slice of it."""

    __slots__ = ("_left",)

    def __init__(self) -> None:
        self._left = _SLICE

    async def spend(self, size: int) -> None:
        """Count a task or document of ``size`` bytes that was converted; other requests may run now."""
        self._left -= _LEAST + size
        if self._left <= 0:
            self._left = _SLICE
            await asyncio.sleep(0)


async def records(cursor: AsyncCursor[RawBSONDocument]) -> list[TaskRecord]:
    """The tasks that a query finds."""
    pace, tasks = Pace(), []
    async with cursor.batch_size(AT_ONCE) as found:
        async for document in found:
            tasks.append(record(document))
            await pace.spend(len(document.raw))
    return tasks
