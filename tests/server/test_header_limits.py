"""Heads over the limits are refused while they come in, and never held."""

from __future__ import annotations

import socket

import pytest

from ratus.server import ConnectionLimits
from tests.server.support import Client, echo, running

TOO_LARGE = "request header fields too large: at most 65536 bytes and 100 fields"


def fields(count: int) -> bytes:
    """The parser hands over a field when it sees the next."""
    return b"".join(b"x-%d: v\r\n" % number for number in range(count))


def offer(client: Client, piece: bytes, pieces: int) -> int:
    """Send until the server has had enough; the number of bytes it took."""
    sent = 0
    try:
        for _ in range(pieces):
            sent += client.sock.send(piece)
    except OSError:
        pass
    return sent


def test_what_is_at_the_limit_passes() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get(b"/", fields(99)).status == 200
        # Target, and name, value and four bytes of punctuation each: host is 9.
        assert client.get(b"/" + b"a" * 65_526).status == 200
        assert client.get(b"/", b"x: %b\r\n" % (b"a" * (65_536 - 1 - 9 - 5))).status == 200


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n" + fields(101) + b"\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"a" * 65_536 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x" * 65_536 + b": a\r\n\r\n",
        b"GET /" + b"a" * 65_536 + b" HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\n"
        + b"".join(b"x: %b\r\n" % (b"a" * 4000) for _ in range(17))
        + b"\r\n",
    ],
    ids=["many", "long value", "long name", "long target", "many long"],
)
@pytest.mark.parametrize("pieces", [1, 20])
def test_what_is_over_the_limit_is_refused(head: bytes, pieces: int) -> None:
    with running(echo) as server, Client(server.port) as client:
        size = len(head) // pieces + 1
        try:
            for start in range(0, len(head), size):
                client.send(head[start : start + size])
        except OSError:
            pass
        client.answer().assert_error(431, TOO_LARGE)


@pytest.mark.parametrize(
    ("start", "piece"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: ", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nhost: a\r\n", b"a" * 65_536),
        (b"GET /", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nhost: a\r\n", fields(5000)),
    ],
    ids=["one value", "one name", "one target", "many fields"],
)
def test_a_flood_is_refused_early(start: bytes, piece: bytes) -> None:
    limits = ConnectionLimits(linger_seconds=0.2, linger_bytes=1_000_000)
    with running(echo, limits=limits) as server, Client(server.port) as client:
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65_536)
        client.send(start)
        sent = offer(client, piece, 100_000_000 // len(piece))
        # What was dropped, and what the two sockets hold: it cannot have been taken in.
        assert sent < 10_000_000


def test_the_client_of_a_flood_sees_the_answer() -> None:
    with running(echo, limits=ConnectionLimits(linger_seconds=0.5)) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n" + fields(102))
        client.answer().assert_error(431, TOO_LARGE)
        # It may go on sending for a while without being reset.
        client.send(b"a" * 1000)
        client.send(b"a" * 1000)
        client.assert_closed()


@pytest.mark.parametrize(
    "rest",
    [
        b"0\r\n" + b"x: y\r\n" * 40_000,
        b"0\r\nx: " + b"y" * 400_000,
        b"3;ext=" + b"y" * 400_000,
    ],
    ids=["trailers", "one trailer", "chunk extension"],
)
def test_what_is_no_content_within_a_body_is_bounded_too(rest: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n")
        try:
            for start in range(0, len(rest), 30_000):
                client.send(rest[start : start + 30_000])
        except OSError:
            pass
        client.answer().assert_error(431, TOO_LARGE)


def test_trailers_do_not_become_headers() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(
            b"POST / HTTP/1.1\r\nhost: a\r\n"
            b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nauthorization: x\r\n\r\n"
        )
        told = client.answer().json
        assert told["body"] == "abc"
        assert told["headers"] == [["host", "a"], ["transfer-encoding", "chunked"]]


def test_a_large_body_is_not_mistaken_for_the_head_behind_it() -> None:
    body = b"b" * 200_000
    with running(echo) as server, Client(server.port) as client:
        client.send(
            b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%bGET /2 HT" % (len(body), body)
        )
        assert client.answer().json["body"] == len(body)
        client.send(b"TP/1.1\r\nhost: a\r\n\r\n")
        assert client.answer().json["path"] == "/2"


def test_a_refused_head_behind_a_request_comes_after_its_answer() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n" + fields(102))
        assert client.answer().json["path"] == "/1"
        client.answer().assert_error(431, TOO_LARGE)
