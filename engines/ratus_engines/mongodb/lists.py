"""Lists: the tasks of a topic in order of their ids, and the topics in order of their names."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Collection
from typing import Any

from ratus.core.errors import BadRequest
from ratus.core.members import FILTERS, State
from ratus.core.records import ARCHIVED, MAX_PAGE_BYTES, TaskPage, TaskQuery, TaskRecord
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.documents import member, record
from ratus_engines.mongodb.pace import Pace

# Hexadecimal digits of a checksum that stand before the id in a cursor.
_DIGITS = 8

# The state is always in the condition, as the index begins with it.
_FILTERS = tuple(member.name for member in FILTERS if not isinstance(member.type, State))

# Documents in one answer of the database: a page is a hundred tasks as a rule, and one more is read.
_BATCH = 101


async def page(deployment: Deployment, query: TaskQuery) -> TaskPage:
    """One page of the tasks of a topic. Raises `BadRequest` for a cursor that no page has given."""
    states: Any = {"$in": list(range(ARCHIVED + 1))} if query.state is None else query.state
    condition: dict[str, Any] = {"topic": query.topic, "state": states}
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
        hint=deployment.hint(indexes.LISTS),
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


def _position(task_id: str) -> str:
    return f"{zlib.crc32(task_id.encode()):0{_DIGITS}x}{task_id}"


def _id_at(position: str) -> str:
    task_id = position[_DIGITS:]
    if not task_id or position != _position(task_id):
        raise BadRequest("the cursor is not one that this server gave")
    return task_id


async def topics(deployment: Deployment, limit: int, offset: int) -> list[str]:
    """The names of topics that have a task or are paused, in order."""
    found = await deployment.aggregate(
        [
            # MongoDB looks at one key of the index for each topic, however many tasks it has.
            {"$group": {"_id": "$topic"}},
            {
                "$unionWith": {
                    "coll": deployment.settings.name,
                    "pipeline": [{"$match": {"paused": True}}, {"$project": {"_id": 1}}],
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
    """Those of these topics that have a task or are paused. Looks at a key of an index for each topic."""
    wanted = {"$in": list(names)}
    with_tasks, paused = await asyncio.gather(
        deployment.aggregate([{"$match": {"topic": wanted}}, {"$group": {"_id": "$topic"}}], indexes.LISTS),
        deployment.settings.find({"_id": wanted, "paused": True}, {"_id": 1}).to_list(),
    )
    return {found["_id"] for found in (*with_tasks, *paused)}
