"""A real server within the process of a test: on a free port, in memory, with a clock that the test moves.

with RatusServer() as server, server.client() as ratus:
    ratus.insert_task(Task(id="1", topic="mail", defer="1h"))
    assert ratus.poll("mail") is None
    server.advance("1h")
    assert ratus.poll("mail") is not None
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from ratus.calls.inputs import microseconds
from ratus.client import AsyncClient, Client, DurationLike
from ratus.core.clock import SystemClock
from ratus.runtime.embedded import EmbeddedServer
from ratus.testing.clock import ManualClock

# Turns of the event loop after the clock was moved: a timer wakes a waiting request in one turn, and the
# request claims in another.
_TURNS: Final = 10


class RatusServer(EmbeddedServer):
    """A server that serves while its `with` block runs, from a thread of its own.

    Its clock stands still at the time of its making until `advance` moves it, so that tests of what takes
    time (long polls, retries, deadlines) need no sleeping; with `real_clock` it is the machine's clock.
    `flags` are those of the `ratus` command. `port`: where to serve; by default a free one. `tls`: the files
    of a certificate and its key, to serve HTTPS.
    """

    def __init__(
        self,
        *flags: str,
        real_clock: bool = False,
        port: int = 0,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._manual = None if real_clock else ManualClock(time.time_ns() // 1_000)
        # Between rounds, chores wait by the machine's clock; with a manual one, `advance` does them.
        chores = [] if real_clock else ["--chore-interval", "0"]
        super().__init__([*chores, *flags], clock=self._manual or SystemClock(), port=port, tls=tls)

    def client(self, **options: Any) -> Client:
        """A client of this server; the options are those of `Client`."""
        return Client(self.url, **options)

    def async_client(self, **options: Any) -> AsyncClient:
        """A client of this server for asyncio; the options are those of `AsyncClient`."""
        return AsyncClient(self.url, **options)

    @property
    def now(self) -> datetime:
        """The time by the server's clock."""
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=self._clock.now())

    def advance(self, duration: DurationLike) -> None:
        """Move the clock on. What falls due on the way happens: waits end, claims lapse, tasks expire."""
        if self._manual is None or self._loop is None:
            raise RuntimeError("only the clock of a running server made without real_clock can be moved")
        clock, step = self._manual, microseconds(duration, "duration")

        async def advance() -> None:
            clock.advance(step)
            for _ in range(_TURNS):
                await asyncio.sleep(0)
            if self._engine is not None:
                await self._engine.recover(clock.now())
                await self._engine.expire(clock.now())
                await self._engine.purge(clock.now() - self._settings.retention_period)

        asyncio.run_coroutine_threadsafe(advance(), self._loop).result()
