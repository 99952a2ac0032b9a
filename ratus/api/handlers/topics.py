"""Handlers of topics: lists, counts, settings, lanes."""

from __future__ import annotations

import asyncio

from ratus.api import serializing
from ratus.api.call import Call, Response
from ratus.api.cursors import lanes_list, make_cursor
from ratus.api.parsing import Reader
from ratus.api.query import flag
from ratus.core.errors import NotFound
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import TopicInfo
from ratus.engine import Engine
from ratus.metrics import Metrics

# Before the value in a position of a list of lanes: a position must not be empty, and a value may be.
_VALUE = "="
# Topics of a list that are read at the same time: few enough for any pool of connections.
_READ_TOGETHER = 32


class TopicHandlers:
    """The operations on topics."""

    def __init__(self, engine: Engine, reader: Reader, metrics: Metrics) -> None:
        self._engine = engine
        self._read = reader
        self._metrics = metrics

    async def list_topics(self, call: Call) -> Response:
        limit, offset = self._read.page(call.query)
        names = await self._engine.list_topics(limit, offset)
        if not flag(call.query, "details"):
            return Response(200, serializing.topics(names))
        infos: list[TopicInfo] = []
        for start in range(0, len(names), _READ_TOGETHER):
            some = names[start : start + _READ_TOGETHER]
            found = await asyncio.gather(*(self._engine.get_topic(name, call.now) for name in some))
            # A topic that is gone by now is shown as empty, so that the page is as long as its limit says.
            infos += [info or TopicInfo(name) for name, info in zip(some, found, strict=True)]
        return Response(200, serializing.topics_in_detail(infos))

    async def delete_topics(self, call: Call) -> Response:
        return Response(200, serializing.deleted(await self._engine.delete_topics()))

    async def get_topic(self, call: Call) -> Response:
        return await self._topic(call)

    async def patch_topic(self, call: Call) -> Response:
        change = self._read.settings_of_topic(call.body, call.topic)
        if change.settings:
            await self._engine.change_settings(call.topic, **change.settings)
        if change.lifts_holds:
            await self._engine.lift_holds(call.topic, call.now)
        return await self._topic(call, known=bool(change))

    async def list_lanes(self, call: Call) -> Response:
        settings = await self._engine.get_record(TOPIC_SETTINGS, call.topic)
        limits = None if settings is None else settings.members.limits
        per = None if limits is None else limits.per
        query = self._read.lane_query(call.query, call.topic, None if per is None else per.label)
        after = None if query.after is None else query.after.removeprefix(_VALUE)
        lanes = await self._engine.list_lanes(call.topic, query.label, after, query.limit + 1, call.now)
        shown, cursor = lanes[: query.limit], None
        if len(lanes) > query.limit:
            last = shown[-1].value
            assert last is not None, "the lane of the tasks without the label comes last"
            cursor = make_cursor(_VALUE + last, lanes_list(call.topic, query.label))
        return Response(200, serializing.lanes(shown, cursor))

    async def _topic(self, call: Call, *, known: bool = False) -> Response:
        info = await self._engine.get_topic(call.topic, call.now)
        if info is None:
            if known:  # the topic was resumed and has no task: the setting is made
                return Response(200, serializing.topic(TopicInfo(call.topic)))
            raise NotFound()
        self._metrics.admit_topic(info.name)
        return Response(200, serializing.topic(info))

    async def delete_topic(self, call: Call) -> Response:
        return Response(200, serializing.deleted(await self._engine.delete_topic(call.topic)))
