"""Nothing is left of a connection that has ended, however it ended: its objects go without the collector."""

from __future__ import annotations

import contextlib
import gc
import itertools
import ssl
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import httptools
import pytest
from starlette.types import Receive, Scope, Send

from ratus.runtime import config
from ratus.runtime.app import build
from ratus.server import Guards
from ratus.server.exchange import Exchange
from ratus.server.protocol import GuardedProtocol
from tests.engines.contract.engines import absent
from tests.engines.mongodb import servers
from tests.server.support import Client, Running, SilentService, answer, eventually, running

# One quick step after another: what ends by a limit ends soon.
GUARDS = Guards(header_seconds=0.3, body_seconds=0.3, idle_seconds=0.3, linger_seconds=0.1)

TOKEN = b"authorization: Bearer secret-of-the-tests\r\n"
GET = b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n\r\n"
GIVEN = b"GET /v1/topics HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n"
POST = b"POST /v1/topics/t/tasks HTTP/1.1\r\nhost: x\r\n" + TOKEN

KINDS = {
    "nothing": b"",
    "a line break": b"\r\n",
    "half a head": b"GET / HTTP/1.1\r\nhost: x\r\nhal",
    "answered": GIVEN,
    "answered and closed": GIVEN[:-2] + b"connection: close\r\n\r\n",
    "HTTP/1.0": b"GET /livez HTTP/1.0\r\n\r\n",
    "400: malformed": b"GET / \x01\r\n\r\n",
    "400: a target": b"GET x HTTP/1.1\r\nhost: x\r\n\r\n",
    "400: CONNECT": b"CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n" + b"x: %b\r\n" % (b"a" * 30_000) + b"\r\n",
    "400: HTTP/2.0": b"GET / HTTP/2.0\r\nhost: x\r\nx: %b\r\n\r\n" % (b"a" * 30_000),
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
    "a poll that waits": b"POST /v1/topics/t/promises?wait=300ms HTTP/1.1\r\nhost: x\r\n" + TOKEN + b"\r\n",
    "pipelined": GIVEN * 300,
    "pipelined, 401": GET * 2500,
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

LEAVES: tuple[Leave, ...] = (
    read_to_the_end,
    half_close,
    reset,
    reset_after_the_first_byte,
    close,
)


def living() -> Counter[str]:
    """How many objects of the connections of servers there are."""
    kinds = (GuardedProtocol, Exchange, httptools.HttpRequestParser)
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)


def visit(
    server: Running,
    sent: bytes,
    leaves: Sequence[Leave],
    times: int,
    tls: ssl.SSLContext | None = None,
) -> None:
    """So many connections that send this and leave in these ways, in turn."""
    clients = [Client(server.port, tls) for _ in range(times)]
    for client in clients:
        # A refusal may come before all has been sent, and be followed by a reset.
        with contextlib.suppress(OSError):
            client.send(sent)
    for client, leave in zip(clients, itertools.cycle(leaves), strict=False):
        with contextlib.suppress(OSError):
            leave(client)
        client.sock.close()


@contextlib.contextmanager
def serving(engine: str, directory: Path) -> Iterator[Running]:
    """The whole application on this engine, with a token."""
    flags = ["--auth-tokens", "secret-of-the-tests little-of-the-tests:produce", "--engine", engine]
    if engine == "sqlite":
        flags += ["--sqlite-path", str(directory / "tasks.db")]
    if engine == "mongodb":
        uri = servers.shared_uri()
        if uri is None:
            absent(servers.ABSENT)
        servers.fresh("ratus_ended_connections")
        flags += ["--mongodb-uri", uri, "--mongodb-database", "ratus_ended_connections"]
    app, service = build(config.parse(flags, {}))
    with running(app, guards=GUARDS, service=cast(SilentService, service)) as server:
        yield server
    if engine == "mongodb":
        servers.sweep()


@pytest.mark.parametrize("engine", ["memdb", "sqlite", "mongodb"])
@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_a_thousand_connections(engine: str, tmp_path: Path) -> None:
    """Up to forty of each kind, which leave in each way."""
    with serving(engine, tmp_path) as server:
        before = living()
        for sent in KINDS.values():
            visit(server, sent, LEAVES, max(5, min(40, 300_000 // (len(sent) + 1))))
            eventually(lambda: not server.state.connections and not server.state.exchanges)
        eventually(lambda: living() == before)


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.usefixtures("no_collector", "both_ways")
def test_nothing_is_left_where_an_answer_was_not_read(leave: Leave) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a" * 5_000_000)

    before = living()
    with running(app, guards=GUARDS) as server:
        visit(server, GET * 3, [leave], 20)
        eventually(lambda: not server.state.connections and not server.state.exchanges)
        assert living() == before


@pytest.mark.usefixtures("no_collector", "both_ways")
def test_nothing_is_left_after_a_shutdown() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await receive()
        while body.get("more_body"):
            body = await receive()
        if body["type"] == "http.request":
            await answer(send, b"ok")

    before = living()
    with running(app, guards=GUARDS) as server:
        clients = [Client(server.port) for _ in KINDS]
        for client, sent in zip(clients, KINDS.values(), strict=True):
            with contextlib.suppress(OSError):
                client.send(sent)
        server.stop()
        assert server.join() == 0
        for client in clients:
            client.sock.close()
        assert living() == before


HANDSHAKES = {
    "nothing": b"",
    "plain HTTP": GET,
    "no TLS": b"\x01" * 5000,
    "half a hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.parametrize("sent", HANDSHAKES.values(), ids=HANDSHAKES)
@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_handshakes_that_fail(
    server_tls: ssl.SSLContext, sent: bytes, leave: Leave
) -> None:
    before = living()
    with running(never, guards=GUARDS, tls=server_tls) as server:
        visit(server, sent, [leave], 100)
        eventually(lambda: living() == before)


@pytest.mark.parametrize("leave", LEAVES)
@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_connections_with_tls(server_tls: ssl.SSLContext, leave: Leave) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "http.request":
            await answer(send, b"ok")

    client_tls = ssl.create_default_context()
    client_tls.check_hostname, client_tls.verify_mode = False, ssl.CERT_NONE
    before = living()
    with running(app, guards=GUARDS, tls=server_tls) as server:
        for sent in KINDS.values():
            visit(server, sent, [leave], 3, client_tls)
        eventually(lambda: not server.state.connections)
        eventually(lambda: living() == before)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no request came")
