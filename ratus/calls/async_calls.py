"""Asynchronous calls; see `sync_calls`."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import Any, TypeVar

from ratus.calls.async_connections import AsyncConnections, AsyncInterrupt
from ratus.calls.base import BaseCalls, conclude, note_lost_attempt
from ratus.calls.inputs import DurationLike
from ratus.calls.requests import Request
from ratus.calls.retrying import Attempts
from ratus.calls.steps import Pause, Step, Steps, run_async
from ratus.core.errors import RatusError

T = TypeVar("T")


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
        )
        self._transport = AsyncConnections(self._address, tls=tls, connect_seconds=self._connect_seconds)

    async def close(self) -> None:
        """Close the connections. Calls made afterwards raise `TransportError`."""
        await self._transport.close()

    @property
    def _closed(self) -> bool:
        return self._transport.closed

    async def _call(
        self,
        request: Request[T],
        attempts: Attempts | None = None,
        interrupt: AsyncInterrupt | None = None,
        patience: float | None = None,
    ) -> T:
        """Make a call. `patience`: seconds for the answer and for a connection, in place of the client's."""
        attempts = attempts or self._attempts(request)
        data = self._bytes(request)
        limit = self._seconds(request) if patience is None else patience
        while True:
            attempts.begun = time.monotonic()
            try:
                return conclude(
                    request,
                    await self._transport.exchange(
                        data,
                        limit,
                        # What keeps a claim must not queue behind what hangs.
                        waits=request.wait > 0 or patience is not None,
                        interrupt=interrupt,
                        connect_seconds=patience,
                    ),
                )
            except RatusError as error:
                note_lost_attempt(error, attempts)
                pause = attempts.pause(error)
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def _run(self, steps: Steps[T]) -> T:
        """Carry out an operation of several calls."""

        async def carry_out(step: Step) -> Any:
            if isinstance(step, Pause):
                return await asyncio.sleep(step.seconds)
            return await self._call(step.request, step.attempts, patience=step.patience)

        return await run_async(steps, carry_out)
