"""How a client reaches its server: by any address of a name, on systems without poll, until it is closed."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from ratus import Task, TransportError
from ratus.calls.connecting import Addresses
from ratus.calls.retrying import Backoff
from ratus.testing import RatusServer
from tests.client.support import InBackground, ScriptedServer, connect


@pytest.fixture
def dead() -> Iterator[tuple[str, int]]:
    """An address that answers nothing, as one of IPv6 where the network does not carry it."""
    # With nothing that accepts and a queue of one, further connections are left hanging by the system.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address: tuple[str, int] = listener.getsockname()
        crowd = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(address)
            crowd.append(each)
        yield address
        for each in crowd:
            each.close()


def named(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Have every name mean these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: list(found))


def address_of(server: RatusServer) -> tuple[str, int]:
    return "127.0.0.1", int(server.url.rpartition(":")[2])


def closed() -> tuple[str, int]:
    """An address where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address: tuple[str, int] = listener.getsockname()
    return address


def test_the_second_address_of_a_name_is_tried(
    kind: str, server: RatusServer, dead: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    named(monkeypatch, dead, closed(), address_of(server))
    with connect(kind, "http://ratus.example", retries=0, connect_timeout="3s") as client:
        assert client.insert_task(Task(id="1", topic="t")).created == 1
        inner: Any = getattr(client, "_target", client)
        assert inner._transport._addresses._reached == address_of(server)


def test_the_address_that_was_reached_is_tried_first_and_each_has_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(time, "monotonic", lambda: 100.0)
    addresses = Addresses("ratus.example", 80)
    addresses._reached = ("b", 80)
    found: list[Any] = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (name, 80)) for name in "abc"]
    tried = [(info[4][0], share) for info, share in addresses._shares(found, 106.0)]
    assert tried == [("b", 2.0), ("a", 3.0), ("c", 6.0)]


def test_a_name_without_a_living_address_is_a_transport_error(
    kind: str, dead: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for addresses in ([], [dead, closed()], [closed(), dead]):
        named(monkeypatch, *addresses)
        with connect(kind, "http://ratus.example", retries=0, connect_timeout="100ms") as client:
            with pytest.raises(TransportError, match="cannot connect") as caught:
                client.list_topics()
            assert not caught.value.sent


def test_connections_are_used_again_where_there_is_no_poll(
    kind: str, server: RatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with connect(kind, server.url, retries=0) as client:
        client.list_topics()
        if kind == "sync":
            monkeypatch.delattr(select, "poll")
        for _ in range(3):
            assert client.list_topics() == []


def test_the_worker_of_a_closed_client_ends(kind: str, live: RatusServer) -> None:
    with connect(kind, live.url, pauses=True) as client:
        working = InBackground(lambda: client.subscribe("t", print, wait="50ms"))
        inner: Any = getattr(client, "_target", client)
        while not inner._workers:
            time.sleep(0.001)
        client.close()
        with pytest.raises(TransportError, match="the client is closed"):
            working.join()


def test_a_call_of_a_closed_client_is_not_tried_again(kind: str) -> None:
    pauses: list[int] = []

    def chance() -> float:
        pauses.append(1)
        return 2.0

    with connect(kind, "http://127.0.0.1:1") as client:
        getattr(client, "_target", client)._backoff = Backoff(chance)
        client.close()
        with pytest.raises(TransportError, match="the client is closed"):
            client.list_topics()
    assert not pauses


def test_the_wrong_scheme_is_named(kind: str, server: RatusServer) -> None:
    with (
        connect(kind, server.url.replace("http:", "https:"), retries=0) as client,
        pytest.raises(TransportError, match="does not speak TLS; does its URL begin with http://"),
    ):
        client.list_topics()
    alert = b"\x15\x03\x03\x00\x02\x02\x46"
    with (
        ScriptedServer([alert], close_after=True) as tls,
        connect(kind, tls.url, retries=0) as client,
        pytest.raises(TransportError, match="it speaks TLS: does its URL begin with https://"),
    ):
        client.list_topics()
