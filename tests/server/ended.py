"""Connections of every kind, and every way to leave one: for the tests of what is left of them."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from tests.absent import absent
from tests.engines.mongodb import servers
from tests.server.support import Client

TOKEN = b"authorization: Bearer secret-of-the-tests\r\n"
GET = b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n"
GIVEN = b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n"
POST = b"POST /v1/topics/t/tasks HTTP/1.1\r\nhost: x\r\n" + TOKEN

# What the engine has a part in.
WITH_ENGINE = {
    "answered": GIVEN,
    "answered and closed": GIVEN[:-2] + b"connection: close\r\n\r\n",
    "a poll that waits": b"POST /v1/topics/t/promises?wait=300ms HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
    "pipelined": GIVEN * 300,
    "pipelined behind one that waits": b"POST /v1/topics/t/promises?wait=300ms HTTP/1.1\r\nhost: a\r\n"
    + TOKEN
    + b"\r\n"
    + GET * 500,
    "pipelined behind the last": GIVEN[:-2] + b"connection: close\r\n\r\n" + GET * 500,
    "pipelined, then CONNECT": GIVEN * 5 + b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n",
    "pipelined, then 431": GIVEN * 5 + b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    "pipelined, then malformed": GIVEN * 50 + b"\x01" * 10 + GIVEN * 200,
    "pipelined bodies": (POST + b"content-length: 2\r\n\r\n{}") * 50,
    "answered in pieces": b"GET /metrics HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
}

KINDS = WITH_ENGINE | {
    "nothing": b"",
    "half a raw target": b"GET /\xc3\xa9\xc3",
    "404: a raw target": b"GET /\xc3\xa9 HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
    "400: a raw target": b"GET /\xc3 HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"a" * 60_000),
    "a line break": b"\r\n",
    "half a head": b"GET / HTTP/1.1\r\nhost: x\r\nhal",
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "400: malformed": b"GET / \x01\r\n\r\n",
    "400: a target": b"GET x HTTP/1.1\r\nhost: x\r\n\r\n",
    "400: CONNECT": b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n" + b"x: %b\r\n" % (b"a" * 60_000) + b"\r\n",
    "400: HTTP/2.0": b"GET / HTTP/2.0\r\nhost: x\r\nx: %b\r\n\r\n" % (b"a" * 60_000),
    "400: the preface of HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "400: a body": POST + b"content-length: 3\r\n\r\nabc",
    "400: a chunk": POST + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz",
    "401": GET,
    "401: with a body": b"POST /v1/topics/t/tasks HTTP/1.1\r\nhost: a\r\ncontent-length: 90000\r\n\r\n"
    + b"a" * 50_000,
    "403": GIVEN.replace(b"secret", b"little"),
    "404": b"GET /nowhere HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
    "405": b"PATCH /v1/topics HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
    "408: a body": POST + b"content-length: 10\r\n\r\nabc",
    "413": POST + b"content-length: 99999999\r\n\r\n" + b"a" * 50_000,
    "413: chunked": POST + b"transfer-encoding: chunked\r\n\r\n" + b"2710\r\n%b\r\n" % (b"a" * 10_000) * 5,
    "431: fields": b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n",
    "431: bytes": b"GET / HTTP/1.1\r\nhost: x\r\nx: %b\r\n\r\n" % (b"a" * 100_000),
    "431: in the middle": b"GET / HTTP/1.1\r\nhost: x\r\nx: %b" % (b"a" * 100_000),
    "an upgrade": GET[:-2] + b"connection: upgrade\r\nupgrade: websocket\r\n\r\n",
    "100-continue": POST + b"content-length: 3\r\nexpect: 100-continue\r\n\r\n",
    "pipelined, 401": GET * 2500,
}

# Where the server speaks TLS.
HANDSHAKES = {
    "nothing": b"",
    "plain HTTP": GET,
    "no TLS": b"\x01" * 5000,
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


def read_to_the_end(client: Client) -> None:
    client.rest()


def half_close(client: Client) -> None:
    client.half_close()
    client.rest()


def reset(client: Client) -> None:
    client.reset()


def reset_after_the_first_byte(client: Client) -> None:
    client.sock.recv(1)
    client.reset()


def close(client: Client) -> None:
    client.sock.close()


Leave = Callable[[Client], None]

# Those first that come while the server is still at work, and last those that wait for it.
LEAVES: tuple[Leave, ...] = (
    reset,
    close,
    half_close,
    reset_after_the_first_byte,
    read_to_the_end,
)


def visit(
    port: int,
    kinds: Iterable[bytes],
    leaves: Iterable[Leave] = LEAVES,
    *,
    tls: ssl.SSLContext | None = None,
    times: int = 1,
) -> int:
    """Connections of all these kinds at a time, and as many that leave in each of these ways; how many.

    Those that wait for the server's limits of time all wait at once.
    """
    pairs = [(sent, leave) for leave in leaves for sent in kinds for _ in range(times)]
    clients = [Client(port, tls) for _ in pairs]
    for client, (sent, _) in zip(clients, pairs, strict=True):
        # A refusal may come before all has been sent, and be followed by a reset.
        with contextlib.suppress(OSError):
            client.send(sent)
    for client, (_, leave) in zip(clients, pairs, strict=True):
        with contextlib.suppress(OSError):
            leave(client)
        client.sock.close()
    return len(clients)


@contextlib.contextmanager
def flags_of(engine: str, directory: Path) -> Iterator[list[str]]:
    """What serves on this engine, with the tokens that the kinds have."""
    flags = ["--auth-tokens", "secret-of-the-tests little-of-the-tests:produce", "--engine", engine]
    if engine == "sqlite":
        flags += ["--sqlite-path", str(directory / "tasks.db")]
    if engine == "mongodb":
        uri = servers.shared_uri()
        if uri is None:
            absent(servers.ABSENT)
        servers.fresh("ratus_ended_connections")
        flags += ["--mongodb-uri", uri, "--mongodb-database", "ratus_ended_connections"]
    yield flags
    if engine == "mongodb":
        servers.sweep()
