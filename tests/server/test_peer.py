"""What the application learns of its peer: disconnected, pipelined, and the callback."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest
from starlette.types import Receive, Scope, Send

from ratus.server import Connection, ConnectionLimits
from tests.server.support import PATIENCE, Client, answer, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")


class Waiter:
    """An application that waits on ``/wait`` until its peer is gone or pressed, and answers what it saw."""

    def __init__(self) -> None:
        self.started = threading.Event()
        self.ended = threading.Event()
        self.seen: list[str] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["ratus.connection"]
        await read_body(receive)
        if scope["path"] != "/wait":
            await answer(send, scope["path"].encode())
            return
        alarm = asyncio.Event()
        connection.watch(alarm.set)
        self.started.set()
        try:
            # Not by `asyncio.timeout`, which an eager request must not use: see `lifecycle.Service.eager`.
            alarmed, _ = await asyncio.wait([asyncio.ensure_future(alarm.wait())], timeout=PATIENCE)
            assert alarmed, "nobody was told of the peer"
            self.seen.append(f"disconnected={connection.disconnected} pipelined={connection.pipelined}")
            await answer(send, b"waited")
        finally:
            self.ended.set()

    def wait_started(self) -> None:
        assert self.started.wait(PATIENCE)

    def wait_ended(self) -> None:
        assert self.ended.wait(PATIENCE)


@pytest.fixture
def waiter() -> Waiter:
    return Waiter()


@pytest.mark.parametrize("leave", [Client.reset, Client.half_close, lambda client: client.sock.close()])
@pytest.mark.parametrize(
    "request_bytes",
    [
        b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n",
        b"POST /wait HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\nab",
    ],
)
def test_a_peer_that_leaves_is_gone(
    waiter: Waiter, leave: Callable[[Client], None], request_bytes: bytes
) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(request_bytes)
        waiter.wait_started()
        leave(client)
        waiter.wait_ended()
    assert waiter.seen == ["disconnected=True pipelined=False"]


def test_a_half_closed_peer_still_gets_its_answer(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        waiter.wait_started()
        client.half_close()
        assert client.answer().body == b"waited"
        client.assert_closed()


def test_requests_sent_before_a_half_close_are_answered(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(
            b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nhost: a\r\n\r\n"
        )
        client.half_close()
        assert [client.answer().body for _ in range(3)] == [b"/1", b"/2", b"/3"]
        client.assert_closed()


def test_a_peer_with_a_request_in_line_presses(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        waiter.wait_started()
        client.send(b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.answer().body == b"waited"
        assert client.answer().body == b"/next"
        assert client.get(b"/after").body == b"/after"
    assert waiter.seen == ["disconnected=False pipelined=True"]


def test_an_unreadable_request_in_line_presses(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        waiter.wait_started()
        client.send(b"NONSENSE\r\n\r\n")
        assert client.answer().body == b"waited"
        client.answer().assert_error(400, "bad request: malformed")
    assert waiter.seen == ["disconnected=False pipelined=True"]


def test_a_request_that_came_with_the_next_is_pressed_from_the_start(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(
            b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /next HTTP/1.1\r\nhost: a\r\n\r\n"
        )
        assert [client.answer().body for _ in range(3)] == [b"waited", b"waited", b"/next"]
    assert waiter.seen == ["disconnected=False pipelined=True"] * 2


def test_only_the_last_of_pipelined_requests_is_not_pressed(waiter: Waiter) -> None:
    with running(waiter) as server, Client(server.port) as client:
        client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /wait HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.answer().body == b"/1"
        waiter.wait_started()
        assert not waiter.seen
        # Reading goes on once nothing is in line any more, so that the close is seen.
        client.sock.close()
        waiter.wait_ended()
    assert waiter.seen == ["disconnected=True pipelined=False"]


def test_requests_in_line_are_not_read_in_advance(waiter: Waiter) -> None:
    filler = b"filler: " + b"a" * 1000 + b"\r\n"
    count = 5000
    sent = (
        b"GET /wait HTTP/1.1\r\nhost: a\r\n\r\n" + b"GET /next HTTP/1.1\r\nhost: a\r\n%b\r\n" % filler * count
    )
    with running(waiter) as server, Client(server.port) as client:
        sender = threading.Thread(target=client.send, args=(sent,))
        sender.start()
        assert client.answer().body == b"waited"
        # Were they all read at once, those beyond the greatest number in line would be refused.
        assert all(client.answer().body == b"/next" for _ in range(count))
        sender.join(PATIENCE)


def test_a_body_that_stands_still_makes_its_peer_gone() -> None:
    seen: list[bool] = []
    alarms: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["ratus.connection"]
        connection.watch(lambda: alarms.append("once"))
        assert await read_body(receive) is None
        await asyncio.sleep(0)
        seen.append(connection.disconnected)
        await answer(send, b"too late")

    with running(app, limits=ConnectionLimits(body_seconds=0.1)) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 2\r\n\r\n")
        client.answer().assert_error(408, "request timeout")
        client.assert_closed()
    assert seen == [True]
    assert alarms == ["once"]


def test_a_watch_is_called_once_and_only_while_it_stands() -> None:
    calls: list[str] = []
    done = threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection: Connection = scope["ratus.connection"]
        connection.watch(lambda: calls.append("replaced"))
        connection.watch(lambda: calls.append("removed"))
        connection.watch(None)
        connection.watch(lambda: calls.append("kept"))
        while not connection.disconnected:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)
        # Too late to hear of it by itself: told at once, in the loop's next turn.
        connection.watch(lambda: calls.append("late"))
        assert calls == ["kept"]
        await asyncio.sleep(0)
        connection.watch(lambda: calls.append("removed in time"))
        connection.watch(None)
        await asyncio.sleep(0.02)
        done.set()

    with running(app) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        client.half_close()
        assert done.wait(PATIENCE)
    assert calls == ["kept", "late"]


def test_a_watch_ends_with_its_answer() -> None:
    calls: list[str] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        scope["ratus.connection"].watch(lambda: calls.append(scope["path"]))
        await answer(send, b"")

    with running(app) as server, Client(server.port) as client:
        assert client.get(b"/1").status == 200
        assert client.get(b"/2").status == 200
        client.sock.close()
        deadline = time.monotonic() + PATIENCE
        while server.state.connections:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert calls == []


@pytest.mark.parametrize(
    "start",
    [b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nab"],
)
def test_an_application_that_listens_hears_of_the_disconnect(start: bytes) -> None:
    heard: list[str] = []
    started, done = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["type"] == "http.request"
        started.set()
        heard.append((await receive())["type"])
        done.set()

    with running(app) as server, Client(server.port) as client:
        client.send(start)
        assert started.wait(PATIENCE)
        client.reset()
        assert done.wait(PATIENCE)
    assert heard == ["http.disconnect"]
