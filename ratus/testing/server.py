"""A real server within the process of a test: on a free port, in memory, with a clock that the test moves.

with RatusServer() as server, server.client() as ratus:
    ratus.insert_task(Task(id="1", topic="mail", defer="1h"))
    assert ratus.poll("mail") is None
    server.advance("1h")
    assert ratus.poll("mail") is not None
"""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import uvloop

from ratus.calls.inputs import microseconds
from ratus.client import AsyncClient, Client, DurationLike
from ratus.core.clock import Clock, SystemClock
from ratus.engine import Engine
from ratus.runtime import config
from ratus.runtime.app import build
from ratus.server.lifecycle import Lifecycle
from ratus.server.listener import bind_sockets, tls_context
from ratus.testing.clock import ManualClock

_START_SECONDS: Final = 30.0
"""Seconds to wait for the start. It takes a few milliseconds; a busy machine may take much longer."""

# Turns of the event loop after the clock was moved: a timer wakes a waiting request in one turn, and the
# request claims in another.
_TURNS: Final = 10


class RatusServer:
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
        self._port = port
        self._tls = None if tls is None else tls_context(str(tls[0]), str(tls[1]))
        self._manual = None if real_clock else ManualClock(time.time_ns() // 1_000)
        self._clock: Clock = self._manual or SystemClock()
        # Between rounds, chores wait by the machine's clock; with a manual one, `advance` does them.
        chores = [] if real_clock else ["--chore-interval", "0"]
        self._settings = config.parse(["--bind", "127.0.0.1", "--port", "1", *chores, *flags], {})
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lifecycle: Lifecycle | None = None
        self._engine: Engine | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.url = ""
        """The URL of the server; empty before it serves."""

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start the server; return once it serves.

        Raises `RuntimeError` when it was started before, or when it does not start.
        """
        if self._thread is not None:
            raise RuntimeError("this server was started before; make another one")
        self._thread = threading.Thread(target=self._serve, name="ratus-server", daemon=True)
        self._thread.start()
        if not self._ready.wait(_START_SECONDS) or not self.url:
            raise RuntimeError("the server did not start") from self._error

    def stop(self) -> None:
        """Finish the requests in flight and end the server; what it kept in memory is gone."""
        if self._loop is not None and self._lifecycle is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._lifecycle.stop)
        if self._thread is not None:
            self._thread.join()

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

    def _serve(self) -> None:
        try:
            # The event loop of the real server; asyncio's own leaves connections open that it accepts while
            # it stops listening.
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._main())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _main(self) -> None:
        app, service = build(self._settings, clock=self._clock)
        self._loop, self._engine = asyncio.get_running_loop(), service.engine
        sockets = bind_sockets("127.0.0.1", self._port)
        self._lifecycle = Lifecycle(
            app,
            service,
            sockets=sockets,
            tls=self._tls,
            ready=self._serving,
        )
        await self._lifecycle.serve()

    def _serving(self, url: str) -> None:
        self.url = url
        self._ready.set()
