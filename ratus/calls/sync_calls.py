"""Synchronous calls: each is sent, and repeated where that is safe."""

from __future__ import annotations

import ssl
import sys
import time
import warnings
from asyncio import _get_running_loop
from types import FrameType
from typing import Any, TypeVar

from ratus.calls.base import BaseCalls, conclude, note_lost_attempt
from ratus.calls.http1 import Response
from ratus.calls.inputs import DurationLike
from ratus.calls.requests import Request
from ratus.calls.retrying import Attempts
from ratus.calls.steps import Pause, Step, Steps, run
from ratus.calls.sync_connections import Interrupt, SyncConnections
from ratus.calls.transport import GivenTransport, Transport
from ratus.core.errors import RatusError

T = TypeVar("T")


class SyncCalls(BaseCalls):
    """Makes calls to one server, for `Client`, its deliveries and its workers. Threads may share it."""

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
        transport: Transport | None,
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
        self._transport: SyncConnections | GivenTransport
        if transport is None:
            self._transport = SyncConnections(self._address, tls=tls, connect_seconds=self._connect_seconds)
        else:
            self._transport = GivenTransport(transport, self._address, self._requests.headers)
        self._warned = False

    def close(self) -> None:
        """Close the connections. Calls made afterwards raise `TransportError`."""
        self._transport.close()

    @property
    def _closed(self) -> bool:
        return self._transport.closed

    @property
    def _interruptible(self) -> bool:
        return isinstance(self._transport, SyncConnections)

    def _call(
        self,
        request: Request[T],
        attempts: Attempts | None = None,
        interrupt: Interrupt | None = None,
        patience: float | None = None,
    ) -> T:
        """Send a request until it has a value; return that value, or raise the last error.

        `patience`: seconds for the whole response and for a connection, in place of the client's settings.
        """
        if not self._warned and _get_running_loop() is not None:
            self._warn_of_event_loop()
        attempts = attempts or self._attempts(request)
        limit = self._seconds(request) if patience is None else patience
        while True:
            attempts.begun = time.monotonic()
            try:
                return conclude(request, self._exchange(request, limit, interrupt, patience))
            except RatusError as error:
                note_lost_attempt(error, attempts)
                pause = attempts.pause(error)
                if pause is None or (interrupt is not None and interrupt.begun):
                    raise
            time.sleep(pause)

    def _exchange(
        self, request: Request[Any], limit: float, interrupt: Interrupt | None, patience: float | None
    ) -> Response:
        if isinstance(self._transport, GivenTransport):
            is_interrupted = interrupt is not None and interrupt.begun
            return self._transport.exchange(request, limit, is_interrupted=is_interrupted)
        return self._transport.exchange(self._bytes(request), limit, interrupt, patience)

    def _run(self, steps: Steps[T], interrupt: Interrupt | None = None) -> T:
        """Carry out an operation of several calls."""

        def carry_out(step: Step) -> Any:
            if isinstance(step, Pause):
                return time.sleep(step.seconds)
            return self._call(step.request, step.attempts, interrupt, step.patience)

        return run(steps, carry_out)

    def _warn_of_event_loop(self) -> None:
        self._warned = True
        warnings.warn(
            "a Client is used within a running event loop, which stands still during each call; use an "
            "AsyncClient, or call it by asyncio.to_thread",
            RuntimeWarning,
            stacklevel=_frames_of_ratus() + 1,
        )


def _frames_of_ratus() -> int:
    """How many frames of this package lie above the program's frame, up to that of this function's caller."""
    frame: FrameType | None = sys._getframe(1)
    count = 0
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith("ratus."):
        frame = frame.f_back
        count += 1
    return count
