"""The life of a server process: start, listen, serve, stop in order.

1. The port is bound, so that a taken one is found before anything is opened; nothing listens yet.
2. ``service.start()`` begins. The listener opens when that is done, so that clients of a fast start never see
   a server that is not ready; or after ``PATIENCE_SECONDS``, so that ``/livez`` and ``/readyz`` show a slow
   one.
3. The first SIGTERM or SIGINT: ``service.begin_shutdown()`` at once; the listener stays open for the shutdown
   delay, then it is closed and the requests in flight are finished; ``service.close()``; exit code 0.
4. A stop that takes longer than the shutdown timeout (the delay comes on top) is cut off: a thread logs what
   hangs and ends the process, with exit code 1. Requests in flight may take a part of that time only, so that
   the engine is closed even if one of them hangs.
5. A second signal ends the process at once, with 128 + its number.

`ratus.cli` calls ``run``; `ratus.testing` makes a ``Lifecycle`` in a thread. ``ratus.runtime.service`` has
the service.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Protocol

import uvloop
from uvicorn.config import Config

from ratus.core.errors import StartupError
from ratus.server.connection_limits import ConnectionLimits
from ratus.server.listener import authority, bind_sockets, cannot_listen, tls_context
from ratus.server.load import Load
from ratus.server.protocol import HTTPProtocol
from ratus.server.state import ServingState
from ratus.server.stopping import StopDeadline, quit_process

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp

logger = logging.getLogger("ratus")

# How long the listener waits for the service. Longer than a start without data takes, shorter than the
# periods at which orchestrators probe.
PATIENCE_SECONDS = 1.0

# The part of the shutdown timeout that requests in flight have: 35 s of the default 60 s, which is longer
# than a client may stand still. The rest is for closing the service.
REQUESTS_SHARE = 7 / 12

# Connections not accepted yet; the system's own limit (net.core.somaxconn) may be lower.
BACKLOG = 2048


class LifecycleHooks(Protocol):
    """What is started and closed with the server: the engine and its chores."""

    @property
    def eager(self) -> frozenset[str]:
        """The HTTP methods whose requests are mostly answered without waiting for anything.

        The application is called for such a request as soon as it is read, without an asyncio task. Until the
        application's first pause there is no `asyncio.current_task`, so it must not use what needs one, such
        as `asyncio.timeout`.
        """

    def refused(self, status: int, client: str) -> None:
        """A request of this client (its address) could not be read and was answered with this status."""

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Publish as a metric the number of open connections, which ``count`` returns.

        Called once, before ``start``.
        """

    def watch_load(self, load: Load) -> None:
        """Publish as metrics what the server holds in memory for clients. Called once, before ``start``."""

    @property
    def closing(self) -> str:
        """What ``close`` is waiting for, as words for the log; empty while it is not running."""

    async def start(self) -> None:
        """Open the engine and start the chores; may take minutes where there is much data.

        Raises `StartupError` or `OSError` with a message for the operator when that is impossible, or another
        exception that is a bug. Nothing is left open then.
        """

    def begin_shutdown(self) -> None:
        """Stop being ready, and answer requests that wait for tasks.

        May be called before ``start`` has returned, and more than once.
        """

    async def close(self) -> None:
        """Stop the chores and close the engine. Called once, only after a ``start`` that succeeded.

        An exception is logged, and makes the exit code 1.
        """

    def reload(self) -> None:
        """Read again the files that may change while the server runs. An exception is logged."""


class Lifecycle:
    """Starts ``service``, serves ``app`` on bound sockets until ``stop``, then closes both.

    ``ready`` is called once, with the address, when the listener is open (empty without ``sockets``). Times
    are in seconds; ``shutdown_timeout_seconds`` 0 is no limit. Used once, on the event loop that runs
    ``serve``.
    """

    def __init__(
        self,
        app: ASGIApp,
        service: LifecycleHooks,
        *,
        sockets: list[socket.socket],
        tls: ssl.SSLContext | None = None,
        shutdown_delay_seconds: float = 0.0,
        shutdown_timeout_seconds: float = 0.0,
        limits: ConnectionLimits | None = None,
        ready: Callable[[str], None] | None = None,
    ) -> None:
        self._service = service
        self._sockets = sockets
        self._tls = tls
        self._shutdown_delay_seconds = shutdown_delay_seconds
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._stage = "the start"
        self._state = ServingState(limits or ConnectionLimits(), service.eager, service.refused)
        self._ready = ready
        service.watch_connections(lambda: len(self._state.connections))
        service.watch_load(self._state.load)
        self._servers: list[asyncio.Server] = []
        self._stopping = asyncio.Event()
        self._config = Config(
            app,
            http=HTTPProtocol,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
        )
        self._config.load()

    def stop(self) -> None:
        """Begin to stop; ``serve`` returns when that is done. Idempotent; to be called on the event loop."""
        if not self._stopping.is_set():
            self._stopping.set()
            self._state.draining = True
            self._service.begin_shutdown()

    def waiting_for(self) -> str:
        """What a stop is waiting for just now, for the log. May be called from any thread."""
        return self._service.closing or self._stage

    def reload(self) -> None:
        """Have the service read its files again; an error is logged and changes nothing."""
        try:
            self._service.reload()
        except Exception:
            logger.exception("reloading failed, what was read before stays in force")

    async def serve(self) -> int:
        """Start, listen, and serve until ``stop``.

        Returns the exit code of the process: 0, or 1 after an error, which was logged.
        """
        starting = asyncio.ensure_future(self._service.start())
        stopping = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait(
                (starting, stopping), timeout=PATIENCE_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            code = 0
            if not self._stopping.is_set() and not _failed(starting):
                try:
                    await self._listen()
                except StartupError as error:
                    logger.error("%s", error)
                    code = 1
                    self.stop()
            # A start is never cut off: an engine that is half open could not be closed in order.
            await asyncio.wait((starting,))
            if _failed(starting):
                _log_failure("cannot start", starting.exception())
                self._state.abort()
                return 1
            self._stage = "the event loop, which is blocked"
            await stopping
            try:
                if not await self._drain():
                    code = 1
            finally:
                code = await self._close_service() or code
            return code
        finally:
            stopping.cancel()
            self._close_listener()
            self._state.stop_sweeping()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        limits = self._state.limits
        secure = self._tls is not None
        for bound in self._sockets:
            host, port = bound.getsockname()[:2]
            try:
                self._servers.append(
                    await loop.create_server(
                        lambda: HTTPProtocol(self._config, self._state, loop),
                        sock=bound,
                        ssl=self._tls,
                        backlog=BACKLOG,
                        ssl_handshake_timeout=limits.header_seconds if secure else None,
                        ssl_shutdown_timeout=limits.linger_seconds if secure else None,
                    )
                )
            except OSError as error:
                raise cannot_listen(authority(host, port), error) from error
        address = ""
        if self._sockets:
            self._state.start_sweeping(loop)
            host, port = self._sockets[0].getsockname()[:2]
            address = f"{'https' if secure else 'http'}://{authority(host, port)}"
        if self._ready is not None:
            self._ready(address)

    async def _drain(self) -> bool:
        """Wait for the shutdown delay, close the listener, and finish the requests in flight.

        Returns false when their time was over and they were cut off.
        """
        self._stage = "the shutdown delay"
        if self._servers and self._shutdown_delay_seconds > 0:
            await asyncio.sleep(self._shutdown_delay_seconds)
        self._close_listener()
        self._stage = "requests in flight"
        seconds = self._shutdown_timeout_seconds * REQUESTS_SHARE
        try:
            async with asyncio.timeout(seconds or None):
                await self._state.shutdown()
        except TimeoutError:
            logger.error(
                "stopping: %d requests in flight did not end within %g s and are cut off",
                len(self._state.cycles),
                seconds,
            )
            self._state.abort()
            return False
        return True

    def _close_listener(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()
        for bound in self._sockets:
            bound.close()

    async def _close_service(self) -> int:
        try:
            await self._service.close()
        except Exception as error:
            _log_failure("the service did not close cleanly", error)
            return 1
        finally:
            self._stage = "what is left on the event loop"
        return 0


def run(
    app: ASGIApp,
    service: LifecycleHooks,
    *,
    bind: str,
    port: int,
    tls_certfile: str | None = None,
    tls_keyfile: str | None = None,
    shutdown_delay_seconds: float = 0.0,
    shutdown_timeout_seconds: float = 0.0,
    limits: ConnectionLimits | None = None,
    ready: Callable[[str], None] | None = None,
    sock: socket.socket | None = None,
) -> int:
    """Serve ``app`` and ``service`` until a signal, from the main thread. Returns the exit code.

    ``port`` 0 opens no listener: the service alone runs. ``ready`` is called once it listens, with the
    address (such as ``http://127.0.0.1:8000``), or once the service runs alone, with an empty text.
    ``sock`` is a bound socket to be used instead of ``bind`` and ``port``. SIGHUP reloads the service. A stop
    that takes longer than ``shutdown_timeout_seconds`` (0: no bound) ends the process.
    """
    try:
        tls = tls_context(tls_certfile, tls_keyfile)
        sockets = [sock] if sock is not None else bind_sockets(bind, port) if port else []
    except StartupError as error:
        logger.error("%s", error)
        return 1

    lifecycle: Lifecycle | None = None
    deadline = StopDeadline(
        shutdown_delay_seconds + shutdown_timeout_seconds if shutdown_timeout_seconds else 0.0,
        lambda: lifecycle.waiting_for() if lifecycle is not None else "the start",
    )

    async def main() -> int:
        nonlocal lifecycle
        lifecycle = Lifecycle(
            app,
            service,
            sockets=sockets,
            tls=tls,
            shutdown_delay_seconds=shutdown_delay_seconds,
            shutdown_timeout_seconds=shutdown_timeout_seconds,
            limits=limits,
            ready=ready,
        )
        with _signals(lifecycle, deadline):
            return await lifecycle.serve()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(main())
    finally:
        # Not before the loop is closed: closing it waits for its threads, one of which may hang.
        deadline.cancel()


@contextmanager
def _signals(lifecycle: Lifecycle, deadline: StopDeadline) -> Iterator[None]:
    """Stop on the first SIGTERM or SIGINT, quit on the second; reload on SIGHUP.

    The handlers are set by `signal.signal`, not by the loop: they run even while the loop is busy, so that
    the second signal always ends the process.
    """
    loop = asyncio.get_running_loop()
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping:
            quit_process(128 + number)
        stopping = True
        deadline.begin()
        loop.call_soon_threadsafe(lifecycle.stop)

    def reload(number: int, frame: FrameType | None) -> None:
        loop.call_soon_threadsafe(lifecycle.reload)

    handlers = {signal.SIGTERM: stop, signal.SIGINT: stop, signal.SIGHUP: reload}
    before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _failed(task: asyncio.Future[None]) -> bool:
    return task.done() and task.exception() is not None


def _log_failure(what: str, error: BaseException | None) -> None:
    """Log the error in one line.

    The traceback follows on level DEBUG, and always for an error that is neither a `StartupError` nor an
    `OSError`, as it may be a bug.
    """
    expected = isinstance(error, StartupError | OSError)
    trace = error if not expected or logger.isEnabledFor(logging.DEBUG) else None
    logger.error("%s: %s", what, str(error) or type(error).__name__, exc_info=trace)
