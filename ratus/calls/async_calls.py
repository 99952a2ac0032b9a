"""Asynchronous calls; see `sync_calls`."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, Final, TypeVar

from ratus.calls.async_connections import AsyncConnections, AsyncInterrupt
from ratus.calls.base import BaseCalls, conclude, note_lost_attempt
from ratus.calls.http1 import Response
from ratus.calls.inputs import DurationLike
from ratus.calls.requests import Request
from ratus.calls.retrying import Attempts
from ratus.calls.steps import Pause, Step, Steps, run_async
from ratus.calls.transport import AsyncTransport, GivenAsyncTransport
from ratus.core.errors import RatusError

T = TypeVar("T")

MAX_REQUESTS: Final = 100
"""Requests in flight at once, not counting long polls, nor the commits and extensions of workers: a thousand
coroutines that insert a task each should not open a thousand connections."""


class AsyncCalls(BaseCalls):
    """Makes calls to one server, on one event loop at a time; see `SyncCalls`."""

    def __init__(
        self,
        url: str | None,
        *,
        token: str | None,
        consumer: str | None,
        request_timeout: DurationLike,
        connect_timeout: DurationLike,
        retries: int,
        compress: bool,
        tls: ssl.SSLContext | None,
        transport: AsyncTransport | None,
    ) -> None:
        super().__init__(
            url,
            token=token,
            consumer=consumer,
            request_timeout=request_timeout,
            connect_timeout=connect_timeout,
            retries=retries,
            compress=compress,
            tls=tls,
            transport=transport,
        )
        self._transport: AsyncConnections | GivenAsyncTransport
        if transport is None:
            self._transport = AsyncConnections(self._address, tls=tls, connect_seconds=self._connect_seconds)
        else:
            self._transport = GivenAsyncTransport(transport, self._address, self._requests.headers)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._slots = asyncio.Semaphore(MAX_REQUESTS)

    async def close(self) -> None:
        """Close the connections. Calls made afterwards raise `TransportError`."""
        await self._transport.close()

    @property
    def _closed(self) -> bool:
        return self._transport.closed

    @property
    def _interruptible(self) -> bool:
        return isinstance(self._transport, AsyncConnections)

    async def _call(
        self,
        request: Request[T],
        attempts: Attempts | None = None,
        interrupt: AsyncInterrupt | None = None,
        patience: float | None = None,
    ) -> T:
        """Send a request until it has a value; return that value, or raise the last error.

        `patience`: seconds for the whole response and for a connection, in place of the client's settings.
        """
        attempts = attempts or self._attempts(request)
        limit = self._seconds(request) if patience is None else patience
        while True:
            attempts.begun = time.monotonic()
            try:
                return conclude(request, await self._exchange(request, limit, interrupt, patience))
            except RatusError as error:
                note_lost_attempt(error, attempts)
                pause = attempts.pause(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _exchange(
        self, request: Request[Any], limit: float, interrupt: AsyncInterrupt | None, patience: float | None
    ) -> Response:
        # A long poll takes no slot, which it would occupy for as long as it waits. A worker's commits and
        # extensions (`patience`) take none either: behind requests that hang, their claims would lapse.
        if request.wait > 0 or patience is not None:
            return await self._send(request, limit, interrupt, patience)
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._slots = asyncio.Semaphore(MAX_REQUESTS)
        async with self._slots:
            return await self._send(request, limit, interrupt, patience)

    async def _send(
        self, request: Request[Any], limit: float, interrupt: AsyncInterrupt | None, patience: float | None
    ) -> Response:
        if isinstance(self._transport, GivenAsyncTransport):
            is_interrupted = interrupt is not None and interrupt.begun
            return await self._transport.exchange(request, limit, is_interrupted=is_interrupted)
        return await self._transport.exchange(self._bytes(request), limit, interrupt, patience)

    async def _run(self, steps: Steps[T]) -> T:
        """Carry out an operation of several calls."""

        async def carry_out(step: Step) -> Any:
            if isinstance(step, Pause):
                return await asyncio.sleep(step.seconds)
            return await self._call(step.request, step.attempts, patience=step.patience)

        return await run_async(steps, carry_out)
