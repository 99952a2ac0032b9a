"""Connections leave nothing behind that only the garbage collector could find."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

import pytest
from starlette.types import Receive, Scope, Send

from tests.server.support import Client, answer, eventually, running

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("path", ["/wait", "/leave", "/answer", "/half"])
@pytest.mark.parametrize("leave", [Client.reset, Client.half_close, lambda client: client.sock.close()])
def test_a_connection_goes_with_its_peer(path: str, leave: Callable[[Client], None]) -> None:
    kept: list[weakref.ref[object]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        connection = scope["ratus.connection"]
        kept.append(weakref.ref(connection))
        if scope["path"] == "/half":
            while (await receive())["type"] != "http.disconnect":
                pass
            return
        if scope["path"] != "/answer":
            gone = asyncio.Event()
            connection.watch(gone.set)
            await gone.wait()
        if scope["path"] != "/leave":
            await answer(send, b"ok")

    with running(app) as server:
        clients = [Client(server.port) for _ in range(10)]
        for client in clients:
            length = "content-length: 9\r\n\r\nhalf" if path == "/half" else "\r\n"
            client.send(f"POST {path} HTTP/1.1\r\nhost: a\r\n{length}".encode())
        if path == "/answer":
            assert all(client.answer().body == b"ok" for client in clients)
        eventually(lambda: len(kept) == len(clients))
        for client in clients:
            leave(client)
        eventually(lambda: not any(reference() for reference in kept))
        for client in clients:
            client.sock.close()
