"""Synchronous calls: sent, repeated where that is safe, and sent in parts where the server takes less."""

from __future__ import annotations

import ssl
import time
import warnings
from asyncio import _get_running_loop
from collections.abc import Iterator
from typing import TypeVar

from ratus.calls.base import BaseCalls, conclude, note_lost_attempt
from ratus.calls.inputs import DurationLike
from ratus.calls.requests import Batch, Request
from ratus.calls.retrying import Attempts
from ratus.calls.sync_connections import Interrupt, SyncConnections
from ratus.core.errors import RatusError

T = TypeVar("T")


class SyncCalls(BaseCalls):
    """Makes calls to one server; deliveries, workers and `Client` stand on it. Threads may share it."""

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
        self._transport = SyncConnections(self._address, tls=tls, connect_seconds=self._connect_seconds)
        self._warned = False

    def close(self) -> None:
        """Close the connections. Calls made afterwards raise `TransportError`."""
        self._transport.close()

    @property
    def _closed(self) -> bool:
        return self._transport.closed

    def _call(
        self,
        request: Request[T],
        attempts: Attempts | None = None,
        interrupt: Interrupt | None = None,
        patience: float | None = None,
    ) -> T:
        """Make a call. `patience`: seconds for the answer and for a connection, in place of the client's."""
        if not self._warned and _get_running_loop() is not None:
            self._warn_of_event_loop()
        attempts = attempts or self._attempts(request)
        data = self._bytes(request)
        limit = self._seconds(request) if patience is None else patience
        while True:
            attempts.begun = time.monotonic()
            try:
                return conclude(request, self._transport.exchange(data, limit, interrupt, patience))
            except RatusError as error:
                note_lost_attempt(error, attempts)
                pause = attempts.pause(error)
                if pause is None or (interrupt is not None and interrupt.begun):
                    raise
            time.sleep(pause)

    def _warn_of_event_loop(self) -> None:
        self._warned = True
        warnings.warn(
            "a Client is used within a running event loop, which stands still during each call; use an "
            "AsyncClient, or call it by asyncio.to_thread",
            RuntimeWarning,
            stacklevel=4,
        )

    def _send(self, batch: Batch[T]) -> Iterator[T]:
        """Send a batch, in parts where the server takes less at a time; the answers in order."""
        waiting = [batch]
        while waiting:
            part = waiting.pop()
            try:
                yield self._call(part.request())
            except RatusError as error:
                self._bounds.refused_batch(error, len(part), part.size)
                waiting += reversed(part.halves())
