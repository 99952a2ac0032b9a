"""A server in a thread, on a real socket, and a client that sends exactly the bytes it is told to."""

from __future__ import annotations

import asyncio
import json
import select
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop
from starlette.types import ASGIApp, Receive, Scope, Send

from ratus.server import ConnectionLimits
from ratus.server.lifecycle import Lifecycle
from ratus.server.load import Load
from ratus.server.protocol import HTTPProtocol
from ratus.server.state import ServingState

# Everything here happens on loopback: whatever takes longer than this has failed.
PATIENCE = 60.0


class SilentService:
    """A service that does nothing but remember what it was told."""

    eager: frozenset[str] = frozenset()
    closing = ""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.refusals: list[tuple[int, str]] = []

    def watch_connections(self, count: Callable[[], int]) -> None:
        self.connections = count

    def watch_load(self, load: Load) -> None:
        self.load = load

    def refused(self, status: int, client: str) -> None:
        self.refusals.append((status, client))

    async def start(self) -> None:
        self.calls.append("start")

    def begin_shutdown(self) -> None:
        self.calls.append("begin_shutdown")

    async def close(self) -> None:
        self.calls.append("close")

    def reload(self) -> None:
        self.calls.append("reload")


async def read_body(receive: Receive) -> bytes | None:
    """The whole body, or None when the client went away before its end."""
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


async def answer(send: Send, body: bytes, status: int = 200, *headers: tuple[bytes, bytes]) -> None:
    """A whole answer with a content-length."""
    fields = [(b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    """Tell the client what arrived."""
    body = await read_body(receive)
    if body is None:
        return
    told = {
        "method": scope["method"],
        "path": scope["path"],
        "raw_path": scope["raw_path"].decode(),
        "query": scope["query_string"].decode(),
        "version": scope["http_version"],
        "scheme": scope["scheme"],
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": len(body) if len(body) > 1000 else body.decode("latin-1"),
    }
    await answer(send, json.dumps(told).encode())


@dataclass
class Running:
    """A server that runs in a thread of its own."""

    port: int
    service: SilentService
    loop: asyncio.AbstractEventLoop
    lifecycle: Lifecycle
    thread: threading.Thread
    exit_codes: list[int] = field(default_factory=list)

    @property
    def state(self) -> ServingState:
        return self.lifecycle._state

    @property
    def open(self) -> set[HTTPProtocol]:
        """The connections that are open."""
        return cast("set[HTTPProtocol]", self.state.open)

    def stop(self) -> None:
        """What the first signal does."""
        self.loop.call_soon_threadsafe(self.lifecycle.stop)

    def turn(self) -> None:
        """Return once the loop has read what has been sent, and done what follows from it."""
        for _ in range(4):
            turned = threading.Event()
            self.loop.call_soon_threadsafe(turned.set)
            assert turned.wait(PATIENCE)

    def let_pass(self, seconds: float) -> None:
        """What has been sent is read; then it is so much later, and the sweep looks whose limit has passed.

        With limits of many seconds, and time that passes only here, a test does not depend on how fast the
        machine is.
        """
        self.turn()
        self.loop.call_soon_threadsafe(self._move_limits, seconds)
        self.turn()

    def _move_limits(self, seconds: float) -> None:
        for connection in self.open:
            connection.deadline -= seconds
            receiving = connection._receiving
            if receiving is not None and receiving._since is not None:
                receiving._since -= seconds
        self.state.stop_sweeping()
        self.state.start_sweeping(self.loop)

    def join(self) -> int:
        """Wait for the end; the exit code."""
        self.thread.join(PATIENCE)
        assert not self.thread.is_alive(), "the server does not stop"
        return self.exit_codes[0]


@contextmanager
def running(
    app: ASGIApp,
    *,
    limits: ConnectionLimits | None = None,
    service: SilentService | None = None,
    tls: ssl.SSLContext | None = None,
    shutdown_delay_seconds: float = 0.0,
    family: socket.AddressFamily = socket.AF_INET,
) -> Iterator[Running]:
    """Serve ``app`` on a free port of loopback until the block ends."""
    bound = socket.socket(family, socket.SOCK_STREAM)
    bound.bind(("::1" if family == socket.AF_INET6 else "127.0.0.1", 0))
    port = bound.getsockname()[1]
    service = service or SilentService()
    listening = threading.Event()
    made: list[Running] = []

    async def main() -> int:
        lifecycle = Lifecycle(
            app,
            service,
            sockets=[bound],
            tls=tls,
            shutdown_delay_seconds=shutdown_delay_seconds,
            limits=limits,
            ready=lambda address: listening.set(),
        )
        made.append(Running(port, service, asyncio.get_running_loop(), lifecycle, thread))
        return await lifecycle.serve()

    def work() -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                code = runner.run(main())
                made[0].exit_codes.append(code)
        finally:
            listening.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    assert listening.wait(PATIENCE)
    server = made[0]
    try:
        yield server
    finally:
        if thread.is_alive():
            server.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive(), "the server does not stop"


@dataclass(frozen=True)
class Answer:
    """A response as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def assert_error(self, status: int, message: str) -> None:
        """It is our JSON error, it starts with ``message``, and it is the connection's last."""
        assert self.status == status, (self.status, self.body)
        assert self.headers["content-type"] == "application/json; charset=utf-8"
        assert self.headers["connection"] == "close"
        assert set(self.json) == {"error"}
        assert self.json["error"]["code"] == status
        assert self.json["error"]["message"].startswith(message), self.json


class ConnectionEnded(AssertionError):
    """The server ended the connection before its answer was complete."""


class Client:
    """A connection that sends what it is told, byte by byte, and reads answers."""

    def __init__(self, port: int, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.sock = socket.create_connection((host, port), timeout=PATIENCE)
        if tls is not None:
            self.sock = tls.wrap_socket(self.sock, server_hostname="localhost")
        self._buffer = b""

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *exception: object) -> None:
        self.sock.close()

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def get(self, target: bytes = b"/", extra: bytes = b"") -> Answer:
        self.send(b"GET %b HTTP/1.1\r\nhost: x\r\n%b\r\n" % (target, extra))
        return self.answer()

    def answer(self, method: str = "GET") -> Answer:
        """The next response; 100 Continue is one of its own."""
        head = self._until(b"\r\n\r\n").decode("latin-1")
        status_line, *lines = head.rstrip("\r\n").split("\r\n")
        version, status, _ = status_line.split(" ", 2)
        assert version == "HTTP/1.1"
        headers: dict[str, str] = {}
        for line in lines:
            name, value = line.split(": ", 1)
            name = name.lower()
            assert name not in headers, f"{name} comes twice"
            headers[name] = value
        if method == "HEAD" or status in ("100", "204", "304"):
            body = b""
        elif "content-length" in headers:
            body = self._exactly(int(headers["content-length"]))
        elif headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(self._until(b"\r\n"), 16):
                body += self._exactly(size + 2)[:-2]
            assert self._exactly(2) == b"\r\n"
        else:
            body = self.rest()
        return Answer(int(status), headers, body)

    def rest(self) -> bytes:
        """Everything up to the end of the connection."""
        while self._more():
            pass
        data, self._buffer = self._buffer, b""
        return data

    def ended(self) -> bool:
        """Whether the server has ended the connection, with nothing left to read."""
        readable = select.poll()
        readable.register(self.sock, select.POLLIN)
        if self._buffer or not readable.poll(0):
            return False
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return True

    def assert_closed(self) -> None:
        """Nothing more comes but the end of the connection."""
        assert self.rest() == b""

    def reset(self) -> None:
        """End the connection with an RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def half_close(self) -> None:
        self.sock.shutdown(socket.SHUT_WR)

    def _more(self) -> bool:
        data = self.sock.recv(65_536)
        self._buffer += data
        return bool(data)

    def _until(self, end: bytes) -> bytes:
        while end not in self._buffer:
            if not self._more():
                raise ConnectionEnded(f"the connection ended after {self._buffer!r}")
        position = self._buffer.index(end) + len(end)
        data, self._buffer = self._buffer[:position], self._buffer[position:]
        return data

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            assert self._more(), "the connection ended within a body"
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data


def eventually(holds: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.002)
