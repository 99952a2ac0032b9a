"""Pages of a topic's tasks in order of creation, and of its lanes in order of their values.

A list of one state does not look at tasks of the others, and one by labels only at those with the rarest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Mapping

from ratus.core.errors import BadRequest
from ratus.core.records import MAX_PAGE_BYTES, LaneInfo, TaskPage, TaskQuery, TaskRecord
from ratus_engines.memdb.by_id import ById
from ratus_engines.memdb.labelled import LabelledTopic
from ratus_engines.memdb.lanes import Lanes
from ratus_engines.memdb.topics import Topic

# Tasks that are looked at before other requests run: one or two milliseconds of work.
SLICE = 512


async def list_page(
    topics: Mapping[str, Topic], tasks: ById, query: TaskQuery, walking: asyncio.Lock
) -> TaskPage:
    """One page of a topic's tasks; see `Engine.list_tasks`.

    A filter may have to look at very many tasks. So requests with a filter hold ``walking`` and run one after
    the other: a hundred at once would take a hundred slices in each turn of the event loop.
    """
    filters = (query.outcome, query.producer, query.consumer, query.state if query.labels else None)
    if all(wanted is None for wanted in filters) and len(query.labels) <= 1:
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
        # One task more than the page holds shows whether there is a next page. Where few tasks may match a
        # filter, a whole slice is taken.
        count = SLICE if filtered else min(SLICE, skip + query.limit - len(found) + 1)
        walked = _walk(topics.get(query.topic), query, after, count)
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
        # Tasks that were found may be changed, replaced or deleted during this pause. A page shows each as it
        # is when the page is answered, without those that are gone or no longer match the filter.
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
    """The sequence number in a cursor, with which the last page ended. Raises `BadRequest` for any other."""
    if after is None:
        return None
    if not (after.isascii() and after.isdecimal() and len(after) <= 15):
        raise BadRequest("the cursor is not one that this server gave")
    return int(after)


def _walk(topic: Topic | None, query: TaskQuery, after: int | None, count: int) -> list[TaskRecord]:
    """Up to ``count`` tasks of a topic behind a sequence number, in order of creation.

    Among them are all that match the query.
    """
    if topic is None:
        return []
    if query.labels:
        rarest = None if topic.index is None else topic.index.rarest(query.labels)
        return [] if rarest is None else rarest.after(after, count)
    if query.state is not None:
        return topic.by_state[query.state].after(after, count)
    parts = [part for tasks in topic.by_state if (part := tasks.after(after, count))]
    if len(parts) == 1:
        return parts[0]
    # Each part is sorted, and sorting sorted runs that follow each other is a merge.
    merged = sorted(itertools.chain.from_iterable(parts), key=lambda task: task.sequence)
    return merged[:count]


# Values of lanes that are looked at before other requests run: about a millisecond of work.
_VALUES = 4096


async def list_lanes(
    topic: LabelledTopic, label: str, after: str | None, limit: int, now: int
) -> list[LaneInfo]:
    """A page of the lanes of a topic; see `Engine.list_lanes`."""
    lanes = topic.lanes[label]
    times = topic.times.of_label(label) if lanes.bound is not None else {}
    values = [*lanes.by_value, *(value for value in times if value not in lanes.by_value)]
    first: list[str] = []
    for start in range(0, len(values), _VALUES):
        some = (
            value
            for value in values[start : start + _VALUES]
            if value is not None and (after is None or value > after) and _is_listed(lanes, value, now)
        )
        first = heapq.nsmallest(limit, itertools.chain(first, some))
        await asyncio.sleep(0)
    found = [lanes.info(value, now) for value in first]
    if len(found) < limit and _is_listed(lanes, None, now):
        found.append(lanes.info(None, now))
    return found


def _is_listed(lanes: Lanes, value: str | None, now: int) -> bool:
    """Whether a lane has tasks, or is closed without any."""
    return value in lanes.by_value or lanes.info(value, now).closed is not None
