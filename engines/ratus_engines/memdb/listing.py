"""Lists of a topic's tasks, in order of creation, without passing over those of other states."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping

from ratus.core.errors import BadRequest
from ratus.core.records import MAX_PAGE_BYTES, TaskPage, TaskQuery, TaskRecord
from ratus_engines.memdb.by_id import ById
from ratus_engines.memdb.topics import Topic

# Tasks that are looked at before requests are let in: one or two milliseconds of work.
SLICE = 512


async def list_page(
    topics: Mapping[str, Topic], tasks: ById, query: TaskQuery, walking: asyncio.Lock
) -> TaskPage:
    """One page of a topic's tasks; see `Engine.list_tasks`.

    A filter may have to look at very many tasks. Those who do hold ``walking``, one after the other: a
    hundred at once would take a hundred slices a turn of the loop.
    """
    if query.outcome is None and query.producer is None and query.consumer is None:
        return await _list_page(topics, tasks, query, filtered=False)
    async with walking:
        return await _list_page(topics, tasks, query, filtered=True)


async def _list_page(
    topics: Mapping[str, Topic], tasks: ById, query: TaskQuery, *, filtered: bool
) -> TaskPage:
    after = _position(query.after)
    found: list[TaskRecord] = []
    size, skip = 0, query.offset
    while True:
        # One more than is wanted shows whether there is a next page. A filter may let few of many through.
        count = SLICE if filtered else min(SLICE, skip + query.limit - len(found) + 1)
        walked = _walk(topics.get(query.topic), query.state, after, count)
        for at, task in enumerate(walked, 1):
            after = task.sequence
            if not query.matches(task):
                continue
            if skip:
                skip -= 1
                continue
            size += task.weight()
            if found and size > MAX_PAGE_BYTES:
                return TaskPage(found, str(found[-1].sequence))
            found.append(task)
            if len(found) == query.limit:
                more = at < len(walked) or len(walked) == count
                return TaskPage(found, str(after) if more else None)
        if len(walked) < count:
            return TaskPage(found)
        # Tasks found before this pause may change, be replaced or go in it. A page shows each as it is when
        # the page is answered, and leaves out what is gone or no longer fits the filter.
        await asyncio.sleep(0)
        found = [
            current
            for task in found
            if (current := tasks.get(task.id)) is not None
            and current.sequence == task.sequence
            and current.topic == query.topic
            and query.matches(current)
        ]


def _position(after: str | None) -> int | None:
    """The sequence number that a page ended with."""
    if after is None:
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 15):
        raise BadRequest("the cursor is not one that this server gave")
    return int(after)


def _walk(topic: Topic | None, state: int | None, after: int | None, count: int) -> list[TaskRecord]:
    """The next tasks of a topic in order of creation."""
    if topic is None:
        return []
    if state is not None:
        return topic.by_state[state].after(after, count)
    parts = [part for tasks in topic.by_state if (part := tasks.after(after, count))]
    if len(parts) == 1:
        return parts[0]
    # Each part is sorted, and sorting sorted runs that follow each other is a merge.
    merged = sorted(itertools.chain.from_iterable(parts), key=lambda task: task.sequence)
    return merged[:count]
