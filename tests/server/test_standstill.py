"""After a standstill (SIGSTOP, a busy machine) the server reads what came, then judges who is late."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from starlette.types import Receive, Scope, Send

from tests.server.support import PATIENCE, Client, Running, answer, echo, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")

HEAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 6\r\n\r\n"


@contextmanager
def standstill(server: Running) -> Iterator[None]:
    """The event loop stands still for the time of the block; then every deadline has passed, and the sweep is
    the first to run."""
    stands, goes_on, swept = threading.Event(), threading.Event(), threading.Event()

    def stand() -> None:
        stands.set()
        goes_on.wait(PATIENCE)
        for connection in server.open:
            connection.deadline = min(connection.deadline, server.loop.time() - 1)
        server.state.stop_sweeping()
        server.state.start_sweeping(server.loop)
        swept.set()

    server.loop.call_soon_threadsafe(stand)
    assert stands.wait(PATIENCE)
    yield
    goes_on.set()
    assert swept.wait(PATIENCE)


def turn(server: Running) -> None:
    """Return once the loop has read what has been sent."""
    for _ in range(3):
        turned = threading.Event()
        server.loop.call_soon_threadsafe(turned.set)
        assert turned.wait(PATIENCE)


def until(server: Running, holds: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if holds():
            return
        turn(server)
    raise AssertionError("it never came to that")


@pytest.mark.parametrize(
    ("before", "meanwhile"),
    [
        (b"", HEAD + b"abcdef"),
        (HEAD[:20], HEAD[20:] + b"abcdef"),
        (HEAD, b"abcdef"),
        (HEAD + b"abc", b"def"),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n",
            b"3\r\ndef\r\n0\r\n\r\n",
        ),
    ],
    ids=["a whole request", "the rest of a head", "a body", "the rest of a body", "the rest of the chunks"],
)
def test_what_came_in_time_is_answered(before: bytes, meanwhile: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(before)
        until(server, lambda: len(server.open) == 1)
        turn(server)
        with standstill(server):
            client.send(meanwhile)
        answered = client.answer()
        assert answered.status == 200, answered.body
        assert answered.json["body"] == "abcdef"


def test_a_request_on_an_idle_connection_is_answered() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get().status == 200
        turn(server)
        with standstill(server):
            client.send(HEAD + b"abcdef")
        assert client.answer().status == 200


def test_a_part_of_a_body_is_progress() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(HEAD + b"a")
        until(server, lambda: bool(server.state.cycles))
        with standstill(server):
            client.send(b"bc")
        turn(server)
        client.send(b"def")
        assert client.answer().json["body"] == "abcdef"


def test_a_client_that_read_meanwhile_gets_the_rest() -> None:
    size = 20_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        await answer(send, b"a" * size, 200, (b"connection", b"close"))

    with running(app) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        until(server, lambda: any(each.flow and each.flow.write_paused for each in server.open))
        read = 0
        with standstill(server):
            while read < 300_000:
                read += len(client.sock.recv(100_000))
        while data := client.sock.recv(1_000_000):
            read += len(data)
        assert read > size


def test_an_answer_to_a_refused_request_is_not_destroyed_by_what_came_behind_it() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/9.9\r\nhost: a\r\n\r\n")
        until(server, lambda: any(each._lingering for each in server.open))
        with standstill(server):
            client.send(b"x" * 1000)
        client.answer().assert_error(400, "bad request")
        client.assert_closed()


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"", 408), (HEAD[:20], 408), (HEAD + b"abc", 408)],
    ids=["nothing", "half a head", "half a body"],
)
def test_what_did_not_come_is_refused_at_once(sent: bytes, status: int) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(sent)
        until(server, lambda: len(server.open) == 1)
        turn(server)
        with standstill(server):
            pass
        client.answer().assert_error(status, "request timeout")
