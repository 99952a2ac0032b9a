"""The numbers of all topics, by three queries, however many topics there are.

Each topic by itself would take three queries. These walk over every key of an index instead, some millions a
second: little, since surveys are rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from typing import TypeVar

from ratus.core.records import ARCHIVED, PENDING, TopicInfo
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, record
from ratus_engines.mongodb.due import Due

# Seconds for each of the two parts: enough for a hundred million tasks; no request waits for the answer.
_LIMIT = 60.0

# Rows of an answer that are read or used before other requests run: a millisecond or two of work.
_SLICE = 200

Item = TypeVar("Item")


async def survey(deployment: Deployment, is_due: Due, now: int, visit: Callable[[TopicInfo], None]) -> None:
    """Call ``visit`` for every topic that has a task or is paused. Raises `ServiceUnavailable`."""
    by_state: list[Document] = [
        {"$group": {"_id": {"topic": "$topic", "state": "$state"}, "count": {"$sum": 1}}}
    ]
    due: list[Document] = [
        # Any topic: with these bounds MongoDB jumps through the index, from the due tasks of one topic to
        # those of the next.
        {"$match": {"topic": {"$gte": ""}, "state": PENDING, **is_due.scheduled(now)}},
        {"$group": {"_id": "$topic", "count": {"$sum": 1}, "scheduled": {"$min": "$scheduled"}}},
    ]
    with deployment.limited(_LIMIT):
        paused = {found["_id"] async for found in deployment.settings.find({"paused": True}, {"_id": 1})}
        states = await deployment.aggregate(by_state, indexes.LISTS, at_once=_SLICE)
    with deployment.limited(_LIMIT):
        dues = {
            found["_id"]: (int(found["count"]), record({"scheduled": found["scheduled"]}).scheduled)
            async for found in _in_slices(await deployment.aggregate(due, indexes.CLAIMS, at_once=_SLICE))
        }
    counts: dict[str, list[int]] = {topic: [0] * (ARCHIVED + 1) for topic in paused}
    async for found in _in_slices(states):
        topic = found["_id"]["topic"]
        counts.setdefault(topic, [0] * (ARCHIVED + 1))[int(found["_id"]["state"])] += int(found["count"])
    async for topic, (pending, active, completed, archived) in _in_slices(counts.items()):
        count, oldest = dues.get(topic, (0, None))
        visit(TopicInfo(topic, (pending, active, completed, archived), count, oldest, topic in paused))


async def _in_slices(items: Iterable[Item]) -> AsyncIterator[Item]:
    for count, item in enumerate(items, 1):
        yield item
        if count % _SLICE == 0:
            await asyncio.sleep(0)
