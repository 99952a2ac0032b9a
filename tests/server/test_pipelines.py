"""Requests pipelined by the thousand: each is answered in its turn, and few are made before it is theirs."""

from __future__ import annotations

import asyncio
import json
import ssl
import tracemalloc

import pytest
from starlette.types import Receive, Scope, Send

from ratus.server.protocol import PIECE
from tests.server.support import Client, Running, answer, echo, eventually, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")

SHORTEST = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"


class Gate:
    """An application that holds every request until it is opened."""

    def __init__(self) -> None:
        self.opened = asyncio.Event()
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await self.opened.wait()
        await answer(send, b"ok")

    def open(self, server: Running) -> None:
        server.loop.call_soon_threadsafe(self.opened.set)


def test_every_one_is_answered() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n" % number for number in range(5000)))
        assert [client.answer().json["path"] for _ in range(5000)] == [f"/{number}" for number in range(5000)]
        assert client.get(b"/after").json["path"] == "/after"


def test_few_are_made_before_their_turn() -> None:
    gate = Gate()
    with running(gate) as server, Client(server.port) as client:
        client.send(SHORTEST * 14_000)
        eventually(lambda: bool(gate.scopes))
        connection = gate.scopes[0]["ratus.connection"]
        assert len(connection._waiting) <= PIECE / len(SHORTEST)
        assert len(connection._unparsed) > 10 * PIECE
        gate.open(server)
        for _ in range(14_000):
            assert client.answer().body == b"ok"
        assert (len(connection._waiting), len(connection._unparsed)) == (0, 0)


def test_a_connection_holds_little_more_than_the_bytes_that_came() -> None:
    gate = Gate()
    sent = SHORTEST * 4500
    with running(gate) as server:
        with Client(server.port) as first:
            first.send(SHORTEST)
            eventually(lambda: bool(gate.scopes))
        gate.scopes.clear()
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        clients = [Client(server.port) for _ in range(20)]
        for client in clients:
            client.send(sent)
        eventually(lambda: len(gate.scopes) == len(clients))
        held = tracemalloc.get_traced_memory()[0] - before
        tracemalloc.stop()
        gate.open(server)
        for client in clients:
            client.sock.close()
    # The objects of a request take fifty times as much as the shortest request.
    assert held / len(clients) < 5 * len(sent)


@pytest.mark.parametrize("size", [0, 1, PIECE - 60, PIECE, PIECE + 1, 5 * PIECE, 200_000])
@pytest.mark.parametrize("chunked", [False, True])
def test_bodies_of_any_size_come_with_what_follows_them(size: int, chunked: bool) -> None:
    body = bytes(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"[position % 18] for position in range(size))
    if chunked:
        framed = (b"%x\r\n%b\r\n" % (size, body) if size else b"") + b"0\r\n\r\n"
        head = b"transfer-encoding: chunked\r\n\r\n"
    else:
        framed, head = body, b"content-length: %d\r\n\r\n" % size
    with running(echo) as server, Client(server.port) as client:
        client.send(
            b"".join(b"POST /%d HTTP/1.1\r\nhost: a\r\n%b%b" % (number, head, framed) for number in range(20))
        )
        for number in range(20):
            told = client.answer().json
            assert (told["path"], told["body"]) == (f"/{number}", size if size > 1000 else body.decode())


def test_a_malformed_one_is_refused_in_its_turn() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(SHORTEST * 1000 + b"GET / HTTP/2.0\r\n\r\n" + SHORTEST * 1000)
        for _ in range(1000):
            assert client.answer().status == 200
        client.answer().assert_error(400, "bad request: HTTP/2.0 is not spoken here")
        client.assert_closed()


@pytest.mark.parametrize("number", [1, 50, 500, 999])
def test_one_that_ends_the_connection_ends_it(number: int) -> None:
    last = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"
    with running(echo) as server, Client(server.port) as client:
        client.send(SHORTEST * number + last + SHORTEST * (1000 - number))
        for _ in range(number):
            assert client.answer().json["path"] == "/"
        assert client.answer().json["path"] == "/last"
        client.assert_closed()


def test_those_of_a_client_that_half_closes_are_answered() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(SHORTEST * 1000)
        client.half_close()
        for _ in range(1000):
            assert client.answer().status == 200
        client.assert_closed()


def test_an_upgrade_among_them_is_a_request_like_others() -> None:
    upgrade = (
        b"POST /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\ncontent-length: 3\r\n\r\nabc"
    )
    with running(echo) as server, Client(server.port) as client:
        client.send((SHORTEST * 300 + upgrade) * 5)
        for _ in range(5):
            for _ in range(300):
                assert client.answer().json["path"] == "/"
            assert client.answer().json["body"] == "abc"


def test_a_shutdown_leaves_the_rest_unanswered() -> None:
    gate = Gate()
    with running(gate) as server, Client(server.port) as client:
        client.send(SHORTEST * 5000)
        eventually(lambda: bool(gate.scopes))
        server.stop()
        eventually(lambda: server.state.draining)
        gate.open(server)
        assert client.answer().headers["connection"] == "close"
        client.assert_closed()
        assert server.join() == 0


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer the size of the body."""
    body = await read_body(receive)
    if body is not None:
        await answer(send, json.dumps(len(body)).encode())


def test_tls_may_have_more_after_reading_was_paused(server_tls: ssl.SSLContext) -> None:
    with running(read_all, tls=server_tls) as server:
        client = ssl.create_default_context()
        client.check_hostname, client.verify_mode = False, ssl.CERT_NONE
        with Client(server.port, tls=client) as connection:
            for _ in range(3):
                connection.send(
                    (SHORTEST * 700 + b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n123456789") * 5
                )
            for _ in range(15):
                assert [connection.answer().json for _ in range(700)] == [0] * 700
                assert connection.answer().json == 9
