"""Handlers of topics: lists, counts, settings."""

from __future__ import annotations

import asyncio

from ratus.api import serializing
from ratus.api.call import Call, Response
from ratus.api.parsing import Reader
from ratus.api.query import flag
from ratus.core.errors import NotFound
from ratus.core.records import TopicInfo
from ratus.engine import Engine
from ratus.metrics import Metrics

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
        paused = self._read.paused(call.body, call.topic)
        if paused is not None:
            await self._engine.set_paused(call.topic, paused)
        return await self._topic(call, known=paused is not None)

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
