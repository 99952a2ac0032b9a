"""Lists: the tasks of a topic in order of their ids, and the topics in order of their names."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection
from typing import Any

from ratus.core.errors import BadRequest
from ratus.core.labels import Pair
from ratus.core.members import FILTERS, State
from ratus.core.records import ARCHIVED, MAX_PAGE_BYTES, TaskPage, TaskQuery, TaskRecord
from ratus_engines.mongodb import indexes, labels
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import member, record
from ratus_engines.mongodb.pace import Pace

# Hexadecimal digits of a checksum that stand before the id in a cursor.
_DIGITS = 8

# The state is always in the condition, as the index begins with it.
_FILTERS = tuple(member.name for member in FILTERS if not isinstance(member.type, State))

# Tasks with a label that are counted to find the rarest of several: at first, and where all have more.
_RARE = (100, 10_000, 1_000_000)

# Documents in one answer of the database: a page is a hundred tasks as a rule, and one more is read.
_BATCH = 101


# The condition for settings that are not all at their default.
HAS_SETTINGS: dict[str, Any] = {"$or": [{"paused": True}, {"limits": {"$exists": True}}]}


async def page(deployment: Deployment, query: TaskQuery) -> TaskPage:
    """One page of the tasks of a topic. Raises `BadRequest` for a cursor that no page has given."""
    states: Any = {"$in": list(range(ARCHIVED + 1))} if query.state is None else query.state
    condition: dict[str, Any] = {"topic": query.topic, "state": states}
    index = indexes.LISTS
    if query.labels:
        rarest = await _rarest(deployment, query)
        condition[labels.FIELD] = labels.having(rarest)
        # Not by the field itself, so that MongoDB looks for the rarest and nothing else.
        others = [labels.having(pair)["$in"] for pair in query.labels if pair != rarest]
        if others:
            condition["$expr"] = {
                "$and": [
                    {"$ne": [{"$setIntersection": [f"${labels.FIELD}", {"$literal": keys}]}, []]}
                    for keys in others
                ]
            }
        index = indexes.KEYS
    if query.after is not None:
        condition["_id"] = {"$gt": _id_at(query.after)}
    for name in _FILTERS:
        wanted = getattr(query, name)
        if wanted is not None:
            condition[name] = member(name, wanted)
    pace = Pace()
    tasks: list[TaskRecord] = []
    size = 0
    cursor = deployment.tasks.find(
        condition,
        sort=[("_id", 1)],
        skip=query.offset,
        # One more shows whether there is a next page.
        limit=query.limit + 1,
        batch_size=_BATCH,
        hint=deployment.hint(index),
    )
    async with cursor:
        async for found in cursor:
            if len(tasks) == query.limit:
                return TaskPage(tasks, _position(tasks[-1].id))
            task = record(found)
            size += task.weight()
            if tasks and size > MAX_PAGE_BYTES:
                return TaskPage(tasks, _position(tasks[-1].id))
            tasks.append(task)
            await pace.spend(len(found.raw))
    return TaskPage(tasks)


async def _rarest(deployment: Deployment, query: TaskQuery) -> Pair:
    """Of the values asked for, the one that the fewest tasks of the topic have, as far as `_RARE` shows."""
    if len(query.labels) == 1:
        return query.labels[0]

    async def count(pair: Pair, most: int) -> int:
        condition = {"topic": query.topic, labels.FIELD: labels.having(pair)}
        pipeline: list[dict[str, Any]] = [{"$match": condition}, {"$limit": most}, {"$count": "count"}]
        found = await deployment.aggregate(pipeline, indexes.KEYS)
        return int(found[0]["count"]) if found else 0

    for most in _RARE:
        counts = await asyncio.gather(*(count(pair, most) for pair in query.labels))
        if min(counts) < most:
            break
    return query.labels[counts.index(min(counts))]


def _position(task_id: str) -> str:
    return f"{zlib.crc32(task_id.encode()):0{_DIGITS}x}{task_id}"


def _id_at(position: str) -> str:
    task_id = position[_DIGITS:]
    if not task_id or position != _position(task_id):
        raise BadRequest("the cursor is not one that this server gave")
    return task_id


async def topics(deployment: Deployment, limit: int, offset: int) -> list[str]:
    """The names of topics that have a task or a setting, in order."""
    found = await deployment.aggregate(
        [
            # MongoDB looks at one key of the index for each topic, however many tasks it has.
            {"$group": {"_id": "$topic"}},
            {
                "$unionWith": {
                    "coll": deployment.settings.name,
                    "pipeline": [{"$match": HAS_SETTINGS}, {"$project": {"_id": 1}}],
                }
            },
            {"$group": {"_id": "$_id"}},
            {"$sort": {"_id": 1}},
            {"$skip": offset},
            {"$limit": limit},
        ],
        indexes.LISTS,
    )
    return [name["_id"] for name in found]


async def known_topics(deployment: Deployment, names: Collection[str]) -> set[str]:
    """Those of these topics that have a task or a setting. Looks at a key of an index for each topic."""
    wanted = {"$in": list(names)}
    with_tasks, with_settings = await asyncio.gather(
        deployment.aggregate([{"$match": {"topic": wanted}}, {"$group": {"_id": "$topic"}}], indexes.LISTS),
        deployment.settings.find({"_id": wanted, **HAS_SETTINGS}, {"_id": 1}).to_list(),
    )
    return {found["_id"] for found in (*with_tasks, *with_settings)}
