"""Handlers of topics: lists, counts, settings."""

from __future__ import annotations

from ratus.api import serializing
from ratus.api.call import Call, Response
from ratus.api.parsing import Reader
from ratus.core.errors import NotFound
from ratus.core.records import TopicInfo
from ratus.engine import Engine
from ratus.metrics import Metrics


class TopicHandlers:
    """The operations on topics."""

    def __init__(self, engine: Engine, reader: Reader, metrics: Metrics) -> None:
        self._engine = engine
        self._read = reader
        self._metrics = metrics

    async def list_topics(self, call: Call) -> Response:
        limit, offset = self._read.page(call.query)
        return Response(200, serializing.topics(await self._engine.list_topics(limit, offset)))

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
