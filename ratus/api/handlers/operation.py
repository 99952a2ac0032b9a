"""Handlers for the operation of the server: probes and metrics."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

from ratus.api import serializing
from ratus.api.call import Call, Response
from ratus.core.errors import ServiceUnavailable
from ratus.engine import Engine
from ratus.metrics import CONTENT_TYPE


class OperationHandlers:
    """Whether the server is alive and ready, and its metrics."""

    def __init__(self, engine: Engine, scrape: Callable[[], AsyncIterator[bytes]]) -> None:
        self._engine = engine
        self._scrape = scrape
        self.draining = False
        """Whether the server is stopping; `/readyz` says so."""

    async def get_liveness(self, call: Call) -> Response:
        return Response(200)

    async def get_health(self, call: Call) -> Response:
        return Response(200)

    async def get_readiness(self, call: Call) -> Response:
        if self.draining:
            raise ServiceUnavailable("the server is stopping")
        health = await self._engine.health()
        if not health.ready:
            raise ServiceUnavailable(health.detail)
        return Response(200, serializing.health(health.detail))

    async def get_metrics(self, call: Call) -> Response:
        return Response(200, content_type=CONTENT_TYPE.encode(), stream=self._scrape())
