"""The numbers of all topics, by a few queries, however many topics there are.

Each topic by itself would take three queries. These walk over every key of an index instead, some millions a
second: little, since surveys are rare.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from typing import TypeVar

from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import ARCHIVED, PENDING, TopicInfo, TopicSettings
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.counts import closing
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import Document, record
from ratus_engines.mongodb.due import Due
from ratus_engines.mongodb.lanes import Lane, Lanes
from ratus_engines.mongodb.records import Records
from ratus_engines.mongodb.uses import NOTHING, Use

# Seconds for each of the two parts: enough for a hundred million tasks; no request waits for the answer.
_LIMIT = 60.0

# Rows of an answer that are read or used before other requests run: a millisecond or two of work.
_SLICE = 200

_DEFAULTS = TopicSettings()

Item = TypeVar("Item")


async def survey(
    deployment: Deployment,
    records: Records,
    lanes: Lanes,
    uses: Mapping[str, Use],
    is_due: Due,
    now: int,
    visit: Callable[[TopicInfo], None],
) -> None:
    """Call ``visit`` for every topic that has a task or a setting. Raises `ServiceUnavailable`."""
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
        settings = {found.id: found.members for found in await records.after(TOPIC_SETTINGS, None, 0)}
        settings = {topic: members for topic, members in settings.items() if members != _DEFAULTS}
        own = await lanes.topics()
        numbers = await lanes.counts()
        states = await deployment.aggregate(by_state, indexes.LISTS, at_once=_SLICE)
    with deployment.limited(_LIMIT):
        dues = {
            found["_id"]: (int(found["count"]), record({"scheduled": found["scheduled"]}).scheduled)
            async for found in _in_slices(await deployment.aggregate(due, indexes.CLAIMS, at_once=_SLICE))
        }
    counts: dict[str, list[int]] = {topic: [0] * (ARCHIVED + 1) for topic in settings}
    async for found in _in_slices(states):
        topic = found["_id"]["topic"]
        counts.setdefault(topic, [0] * (ARCHIVED + 1))[int(found["_id"]["state"])] += int(found["count"])
    async for topic, (pending, active, completed, archived) in _in_slices(counts.items()):
        count, oldest = dues.get(topic, (0, None))
        members = settings.get(topic, _DEFAULTS)
        visit(
            TopicInfo(
                topic,
                (pending, active, completed, archived),
                count,
                oldest,
                members.paused,
                members.limits,
                closing(members, own.get(topic) or Lane(topic), uses.get(topic, NOTHING), active, now),
                numbers.get(topic, 0),
            )
        )


async def _in_slices(items: Iterable[Item]) -> AsyncIterator[Item]:
    for count, item in enumerate(items, 1):
        yield item
        if count % _SLICE == 0:
            await asyncio.sleep(0)
