"""Silent, dripping, stalled and half-open clients: each ends at its limit."""

from __future__ import annotations

import asyncio
import time

import pytest
from starlette.types import Receive, Scope, Send

from ratus.server import ConnectionLimits
from tests.server.support import Client, answer, echo, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")

# Short ones for what is to happen, long ones for what is not.
QUICK_HEADERS = ConnectionLimits(header_seconds=0.2)
QUICK_BODY = ConnectionLimits(body_seconds=0.2)


def test_the_limits_are_those_of_the_contract() -> None:
    limits = ConnectionLimits()
    assert (limits.header_seconds, limits.body_seconds, limits.idle_seconds) == (10, 30, 120)
    assert (limits.header_bytes, limits.header_count) == (65_536, 100)
    assert limits.sweep_seconds <= 1


def test_a_silent_client_is_told_and_closed() -> None:
    with running(echo, limits=QUICK_HEADERS) as server, Client(server.port) as client:
        started = time.monotonic()
        client.answer().assert_error(408, "request timeout: the headers were not complete within 0.2 s")
        client.assert_closed()
        assert time.monotonic() - started >= 0.19


def test_a_client_that_drips_its_headers_is_told_and_closed() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n")
        for _ in range(3):
            client.send(b"a: b\r\n")
            server.let_pass(3.4)
        client.answer().assert_error(408, "request timeout: the headers were not complete within 10 s")


def test_line_breaks_before_a_request_do_not_buy_time() -> None:
    with running(echo, limits=QUICK_HEADERS) as server, Client(server.port) as client:
        client.send(b"\r\n\r\n")
        client.answer().assert_error(408, "request timeout: the headers")


def test_the_headers_of_a_further_request_have_their_own_time() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get().status == 200
        server.let_pass(60)
        assert client.get().status == 200
        client.send(b"GET / HT")
        server.let_pass(10)
        client.answer().assert_error(408, "request timeout: the headers")
        client.assert_closed()


def test_a_half_sent_request_behind_an_answer_has_its_time_from_then_on() -> None:
    with running(echo) as server, Client(server.port) as client:
        server.let_pass(5)
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
        assert client.answer().status == 200
        server.let_pass(5)
        assert not client.ended()
        server.let_pass(5)
        client.answer().assert_error(408, "request timeout: the headers")


@pytest.mark.parametrize(
    "start",
    [
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nab",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\nPOST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc",
    ],
)
def test_a_body_that_stands_still_is_told_and_closed(start: bytes) -> None:
    seen: list[bytes | None] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(await read_body(receive))
        await answer(send, b"done")

    with running(app, limits=QUICK_BODY) as server, Client(server.port) as client:
        client.send(start)
        if start.startswith(b"GET"):
            assert client.answer().body == b"done"
        client.answer().assert_error(408, "request timeout: the body stood still for 0.2 s")
        client.assert_closed()
    assert seen[-1] is None


def test_a_body_that_stands_still_under_an_answer_ends_the_connection() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"a", "more_body": True})
        assert await read_body(receive) is None

    with running(app, limits=QUICK_BODY) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nabc")
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.answer()


def test_a_body_that_moves_may_take_its_time() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 8\r\n\r\n")
        for _ in range(8):
            server.let_pass(20)
            client.send(b"a")
        assert client.answer().json["body"] == "a" * 8


def test_chunk_extensions_are_no_progress() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;")
        for _ in range(3):
            client.send(b"x")
            server.let_pass(10)
        client.answer().assert_error(408, "request timeout: the body")


def test_an_idle_connection_is_closed_without_a_word() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get().status == 200
        server.let_pass(100)
        assert client.get().status == 200
        server.let_pass(100)
        assert not client.ended()
        server.let_pass(20)
        client.assert_closed()


def test_work_is_not_limited() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        await answer(send, b"done")

    limits = ConnectionLimits(header_seconds=0.1, body_seconds=0.1, idle_seconds=0.1)
    with running(app, limits=limits) as server, Client(server.port) as client:
        assert client.get().body == b"done"


def test_a_slow_application_is_not_the_clients_fault() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await asyncio.sleep(0.5)
        body = await read_body(receive)
        await answer(send, b"%d" % len(body or b""))

    # More than is held before the application asks for it, so that the server stops reading.
    size = 2_000_000
    with running(app, limits=QUICK_BODY) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        client.send(b"a" * size)
        assert client.answer().body == b"%d" % size


def test_a_client_that_does_not_read_its_answers_is_cut_off() -> None:
    ended: list[bool] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a" * 20_000_000)
        ended.append(True)

    with running(app, limits=QUICK_BODY) as server, Client(server.port) as client:
        client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n")
        # The second one cannot even be written.
        client.send(b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n")
        deadline = time.monotonic() + 5
        while server.state.connections or len(ended) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_a_client_that_reads_slowly_gets_its_whole_answer() -> None:
    # Several times what the sockets of both sides hold.
    size = 60_000_000

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a" * size, 200, (b"connection", b"close"))

    with running(app) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        read = passed = 0
        while data := client.sock.recv(1_000_000):
            read += len(data)
            # As much as the sockets hold: less may not have made the server send more.
            if read - passed > 8_000_000:
                passed = read
                server.let_pass(20)
        assert read > size


def test_a_client_that_goes_away_within_its_request_leaves_nothing_behind() -> None:
    with running(echo) as server:
        for start in (b"", b"GET / HT", b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab"):
            for end in (Client.reset, Client.half_close):
                client = Client(server.port)
                client.send(start)
                end(client)
                if end is Client.half_close:
                    client.assert_closed()
                client.sock.close()
        deadline = time.monotonic() + 5
        while server.state.connections or server.state.cycles:
            assert time.monotonic() < deadline
            time.sleep(0.01)
