"""A real server within another program: on a port of this machine alone, from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import uvloop

from ratus.core.clock import Clock
from ratus.engine import Engine
from ratus.runtime import config
from ratus.runtime.app import build
from ratus.server.lifecycle import Lifecycle
from ratus.server.listener import bind_sockets, tls_context

_START_SECONDS: Final = 30.0
"""Seconds to wait for the start. It takes a few milliseconds; a busy machine may take much longer."""


class EmbeddedServer:
    """A server that serves from `start` to `stop`, or while its `with` block runs.

    `flags` are those of the `ratus` command, `port` is where it serves on 127.0.0.1, by default a free one.
    `tls`: the files of a certificate and its key, to serve HTTPS. It handles no signals, and leaves the
    program's log and its garbage collection alone. Raises `config.UsageError` for flags that are not valid.
    """

    def __init__(
        self,
        flags: Sequence[str],
        *,
        clock: Clock,
        port: int = 0,
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._port = port
        self._tls = None if tls is None else tls_context(str(tls[0]), str(tls[1]))
        self._clock = clock
        self._settings = config.parse(["--bind", "127.0.0.1", "--port", "1", *flags], {})
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

    def stop(self, seconds: float | None = None) -> None:
        """Finish the requests in flight and end the server; what it kept in memory is gone.

        Waits until it has ended, for at most `seconds` if they are given.
        """
        if self._loop is not None and self._lifecycle is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._lifecycle.stop)
        # Where an app is found to be garbage in the server's own thread, that goes on to its end by itself.
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(seconds)

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
