"""What all clients together may make the server hold is bounded, and what they held is given back."""

from __future__ import annotations

import pytest
from starlette.types import Receive, Scope, Send

from ratus.server import ConnectionLimits
from tests.server.support import Client, Running, answer, echo, eventually, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")

UPLOAD = b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n"


def held(server: Running) -> tuple[int, int]:
    load = server.state.load
    return load.body_bytes, load.unread_bytes


def test_a_connection_too_many_is_answered_and_closed() -> None:
    with running(echo, limits=ConnectionLimits(connections=3)) as server:
        clients = [Client(server.port) for _ in range(3)]
        assert all(client.get().status == 200 for client in clients)
        with Client(server.port) as fourth:
            refused = fourth.answer()
            refused.assert_error(503, "service unavailable: at most 3 connections are open at a time")
            assert refused.headers["retry-after"] == "1"
            fourth.assert_closed()
        assert server.state.load.refused["connections"] == 1
        # Those that are open are served on, and another has the place of one that goes.
        assert all(client.get().status == 200 for client in clients)
        clients.pop().sock.close()
        eventually(lambda: len(server.state.connections) == 2)
        with Client(server.port) as another:
            assert another.get().status == 200
        for client in clients:
            client.sock.close()


def test_a_connection_too_many_of_an_address_is_answered_and_closed() -> None:
    with running(echo, limits=ConnectionLimits(connections_per_address=2)) as server:
        clients = [Client(server.port) for _ in range(2)]
        assert all(client.get().status == 200 for client in clients)
        with Client(server.port) as third:
            third.answer().assert_error(503, "service unavailable: at most 2 connections of one address")
        assert server.state.load.refused["address"] == 1
        for client in clients:
            client.sock.close()
        eventually(lambda: not server.state.connections)
        assert not server.state.load._addresses
        with Client(server.port) as another:
            assert another.get().status == 200


def test_a_body_too_many_is_refused_and_what_it_held_given_back() -> None:
    with running(echo, limits=ConnectionLimits(body_bytes=1_000_000)) as server:
        clients = [Client(server.port) for _ in range(4)]
        for client in clients[:3]:
            client.send(UPLOAD % 400_000 + b"a" * 300_000)
        eventually(lambda: held(server)[0] == 900_000)
        clients[3].send(UPLOAD % 400_000 + b"a" * 300_000)
        refused = clients[3].answer()
        refused.assert_error(503, "service unavailable: too many bodies are on their way")
        assert refused.headers["retry-after"] == "1"
        assert server.state.load.refused["bodies"] == 1
        for client in clients[:3]:
            client.send(b"a" * 100_000)
            assert client.answer().json["body"] == 400_000
        eventually(lambda: held(server)[0] == 0)
        for client in clients:
            client.sock.close()


@pytest.mark.parametrize("leave", [Client.reset, Client.half_close, lambda client: client.sock.close()])
def test_what_a_body_held_goes_with_its_client(leave: object) -> None:
    with (
        running(echo, limits=ConnectionLimits(body_bytes=1_000_000)) as server,
        Client(server.port) as client,
    ):
        client.send(UPLOAD % 400_000 + b"a" * 300_000)
        eventually(lambda: held(server)[0] == 300_000)
        assert callable(leave)
        leave(client)
        eventually(lambda: held(server)[0] == 0)


def test_a_body_that_comes_at_once_is_not_counted() -> None:
    seen: list[int] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        seen.append(scope["ratus.connection"].state.load.body_bytes)
        await answer(send, b"ok")

    with running(app, limits=ConnectionLimits(body_bytes=1)) as server, Client(server.port) as client:
        client.send(UPLOAD % 500 + b"a" * 500)
        assert client.answer().body == b"ok"
    assert seen == [0]


def test_a_body_that_drips_is_cut_off_although_it_never_stands_still() -> None:
    limits = ConnectionLimits(body_seconds=30, body_rate=1000)
    with running(echo, limits=limits) as server, Client(server.port) as client:
        client.send(UPLOAD % 100_000)
        for _ in range(3):
            client.send(b"a")
            server.let_pass(14)
        client.send(b"a")
        client.answer().assert_error(408, "request timeout: the body came at less than 1000 bytes a second")


def test_a_body_that_is_slow_but_fast_enough_is_taken() -> None:
    with (
        running(echo, limits=ConnectionLimits(body_seconds=30, body_rate=5)) as server,
        Client(server.port) as client,
    ):
        client.send(UPLOAD % 1000)
        for _ in range(10):
            client.send(b"a" * 100)
            server.let_pass(14)
        assert client.answer().json["body"] == "a" * 1000


def test_answers_that_are_not_read_are_counted_until_they_are() -> None:
    asked: list[BaseException | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/ask":
            try:
                scope["ratus.connection"].check_answers()
                asked.append(None)
            except Exception as error:
                asked.append(error)
        await answer(send, b"a" * (10_000_000 if scope["path"] == "/large" else 1))

    with (
        running(app, limits=ConnectionLimits(unread_bytes=15_000_000)) as server,
        Client(server.port) as asker,
    ):
        clients = [Client(server.port) for _ in range(3)]
        asker.get(b"/ask")
        for client in clients:
            client.send(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n")
        eventually(lambda: held(server)[1] > 15_000_000)
        asker.get(b"/ask")
        for client in clients[:2]:
            assert len(client.answer().body) == 10_000_000
        clients[2].reset()
        eventually(lambda: held(server)[1] == 0)
        asker.get(b"/ask")
        for client in clients:
            client.sock.close()
    assert [str(error)[:19] for error in asked] == ["None", "service unavailable", "None"]
