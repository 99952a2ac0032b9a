"""Nothing is left of a connection that has ended, however it ended: its objects go without the collector."""

from __future__ import annotations

import contextlib
import gc
import ssl
from collections import Counter
from pathlib import Path
from typing import cast

import httptools
import pytest
from starlette.types import Receive, Scope, Send

from ratus.runtime import config
from ratus.runtime.app import build
from ratus.server import ConnectionLimits
from ratus.server.protocol import HTTPProtocol
from ratus.server.request_response_cycle import RequestResponseCycle
from tests.server.ended import GET, HANDSHAKES, KINDS, WITH_ENGINE, flags_of, visit
from tests.server.support import Client, SilentService, answer, eventually, running

# One quick step after another: what ends by a limit ends soon.
GUARDS = ConnectionLimits(header_seconds=0.3, body_seconds=0.3, idle_seconds=0.3, linger_seconds=0.1)

# Each connection that is left would be seen; a kind that leaves one now and then has some chances to.
ROUNDS = 3


def living() -> Counter[str]:
    """How many objects of the connections of servers there are."""
    kinds = (HTTPProtocol, RequestResponseCycle, httptools.HttpRequestParser)
    return Counter(type(each).__name__ for each in gc.get_objects() if type(each) in kinds)


@pytest.mark.parametrize(
    ("engine", "kinds"), [("memdb", KINDS), ("sqlite", WITH_ENGINE), ("mongodb", WITH_ENGINE)]
)
@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_any_kind(engine: str, kinds: dict[str, bytes], tmp_path: Path) -> None:
    with flags_of(engine, tmp_path) as flags:
        app, service = build(config.parse(flags, {}))
        before = living()
        with running(app, limits=GUARDS, service=cast(SilentService, service)) as server:
            for _ in range(ROUNDS):
                visit(server.port, kinds.values())
                eventually(lambda: not server.state.connections and not server.state.cycles)
            eventually(lambda: living() == before)


@pytest.mark.usefixtures("no_collector", "both_ways")
def test_nothing_is_left_where_an_answer_was_not_read() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a" * 5_000_000)

    before = living()
    with running(app, limits=GUARDS) as server:
        visit(server.port, [GET * 3], times=4)
        eventually(lambda: not server.state.connections and not server.state.cycles)
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
    with running(app, limits=GUARDS) as server:
        clients = [Client(server.port) for _ in KINDS]
        for client, sent in zip(clients, KINDS.values(), strict=True):
            with contextlib.suppress(OSError):
                client.send(sent)
        server.stop()
        assert server.join() == 0
        for client in clients:
            client.sock.close()
        assert living() == before


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_handshakes_that_fail(server_tls: ssl.SSLContext) -> None:
    before = living()
    with running(never, limits=GUARDS, tls=server_tls) as server:
        visit(server.port, HANDSHAKES.values(), times=ROUNDS)
        eventually(lambda: living() == before)


@pytest.mark.usefixtures("no_collector")
def test_nothing_is_left_of_connections_with_tls(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if (await receive())["type"] == "http.request":
            await answer(send, b"ok")

    before = living()
    with running(app, limits=GUARDS, tls=server_tls) as server:
        visit(server.port, KINDS.values(), tls=client_tls)
        eventually(lambda: not server.state.connections)
        eventually(lambda: living() == before)


async def never(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("no request came")
