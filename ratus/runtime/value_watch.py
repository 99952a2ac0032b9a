"""Requests that wait for values to change.

A change by this server wakes them at once. Where other servers may change values as well, one record is read
ten times a second while requests wait, however many there are: that is cheaper than what a database does for
a stream of changes, and works on all of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from ratus.core.clock import SECOND, Clock
from ratus.core.errors import ServiceUnavailable
from ratus.core.values import NamedValue
from ratus.engine import Engine
from ratus.runtime.values import Values

logger = logging.getLogger("ratus")

# Microseconds between two looks at what other servers have changed. Waiting requests are to be woken within
# 250 ms.
INTERVAL = SECOND // 10

# Microseconds until the next look after an unforeseen error, which is logged each time.
_PAUSE = 30 * SECOND

# Seconds after which the loop is cancelled again if it has not ended.
_PATIENCE = 5


class ValueWatch:
    """The values of an engine, and the requests that wait for them to change."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._clock = clock
        self._shared = engine.traits.shared
        self._waiting: set[asyncio.Future[None]] = set()
        self._looking: asyncio.Task[None] | None = None
        self._closed = False
        self.values = Values(engine, self._wake)
        self.waiters = 0
        """How many requests wait."""

    async def wait(
        self,
        find: Callable[[], Awaitable[list[NamedValue]]],
        until: int,
        watch: Callable[[Callable[[], None] | None], None],
    ) -> list[NamedValue]:
        """What ``find`` finds as soon as it finds something; an empty list when the time is over.

        ``until`` is a time of the monotonic clock in microseconds. ``watch`` is given a function to be called
        when the client disconnects, which ends the wait; and ``None`` at the end. Raises `ServiceUnavailable`
        when the server stops.
        """
        over = False

        def end() -> None:
            nonlocal over
            over = True
            _finish(future)

        loop = asyncio.get_running_loop()
        future = loop.create_future()
        timer = None
        self.waiters += 1
        watch(end)
        try:
            while True:
                if self._closed:
                    raise ServiceUnavailable("the server is stopping; ask again")
                # Before the values are read: a change after that must not be missed.
                future = loop.create_future()
                self._waiting.add(future)
                over = over or self._clock.monotonic() >= until
                found = await find()
                if found or over:
                    return found
                if self._shared and self._looking is None:
                    self._looking = loop.create_task(self._look())
                timer = self._clock.call_at_monotonic(until, partial(_finish, future))
                await future
                timer.cancel()
                self._waiting.discard(future)
        finally:
            self.waiters -= 1
            watch(None)
            self._waiting.discard(future)
            if timer is not None:
                timer.cancel()

    def close(self) -> None:
        """End all waits with `ServiceUnavailable`; no request can wait any more."""
        self._closed = True
        self._wake()

    async def join(self) -> None:
        """After `close`: wait until nothing is read from the engine any more."""
        task, self._looking = self._looking, None
        while task is not None and not task.done():
            # Before Python 3.12 a library's `wait_for` may swallow a cancellation: cancel again.
            task.cancel()
            await asyncio.wait([task], timeout=_PATIENCE)

    def _wake(self) -> None:
        for future in self._waiting:
            _finish(future)

    async def _look(self) -> None:
        """Wake the requests after each change by any server, for as long as there are some."""
        version: int | None = None
        while self._waiting and not self._closed:
            pause = INTERVAL
            try:
                found = await self.values.last_version()
            except ServiceUnavailable as error:
                logger.debug("looking for changed values failed: %s", error.detail)
            except Exception:
                logger.exception("looking for changed values failed; trying again")
                pause = _PAUSE
            else:
                if found != version:
                    version = found
                    self._wake()
            await self._sleep(pause)
        self._looking = None

    async def _sleep(self, microseconds: int) -> None:
        future = asyncio.get_running_loop().create_future()
        timer = self._clock.call_at_monotonic(
            self._clock.monotonic() + microseconds, partial(_finish, future)
        )
        try:
            await future
        finally:
            timer.cancel()


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
