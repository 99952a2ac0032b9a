"""A small HTTP server for orchestrators: whether the worker lives, whether it works, and what it has done."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Final, Self

_PATIENCE_SECONDS: Final = 10.0
"""Seconds that a client may stand still."""


class HealthServer:
    """Answers `GET /livez`, `/readyz` and `/metrics` from threads of its own, while its `with` block runs.

    `/livez` is 200, `/readyz` as well while `is_ready` says so, else 503. Raises `OSError` where it cannot
    listen. `port` is that on which it listens; 0 is for a free one.
    """

    def __init__(
        self, address: str, port: int, *, is_ready: Callable[[], bool], metrics: Callable[[], str]
    ) -> None:
        def respond(path: str) -> tuple[int, str]:
            if path == "/livez":
                return 200, ""
            if path == "/readyz":
                return (200, "") if is_ready() else (503, "the worker does not claim tasks\n")
            if path == "/metrics":
                return 200, metrics()
            return 404, "there are /livez, /readyz and /metrics\n"

        self._server = _Server(address, port, respond)
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(target=self._server.serve, name="ratus-health", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.end()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, address: str, port: int, respond: Callable[[str], tuple[int, str]]) -> None:
        if ":" in address:
            self.address_family = socket.AF_INET6
        self.respond = respond
        self._ended = False
        super().__init__((address, port), _Handler)

    def serve(self) -> None:
        """Accept connections until `end`; unlike `serve_forever` without waking up in between."""
        while not self._ended:
            self.handle_request()
        self.server_close()

    def end(self) -> None:
        """Have `serve` return."""
        self._ended = True
        host, port = self.server_address[:2]
        # A connection wakes it up; an address that stands for all is reached by that of the machine itself.
        own = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(str(host), str(host))  # noqa: S104
        try:
            socket.create_connection((own, port), timeout=_PATIENCE_SECONDS).close()
        except OSError:
            pass  # the thread is a daemon: it ends with the program

    def server_bind(self) -> None:
        """Bind, without asking a name server for this machine's name."""
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away before its answer is no error of the worker."""


class _Handler(BaseHTTPRequestHandler):
    timeout = _PATIENCE_SECONDS

    def do_GET(self) -> None:
        """Answer a probe or a scrape."""
        assert isinstance(self.server, _Server)
        status, text = self.server.respond(self.path.partition("?")[0])
        data = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: probes come every few seconds."""
