"""No socket of the driver stays open when a connect is cancelled."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from pymongo import pool_shared
from pymongo.pool_options import PoolOptions
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.testing import START

pytestmark = pytest.mark.anyio


@pytest.fixture
async def connecting(monkeypatch: pytest.MonkeyPatch) -> list[socket.socket]:
    """The sockets whose connect was begun; none of them ever ends."""
    found: list[socket.socket] = []

    async def connect(self: Any, sock: socket.socket, address: Any) -> None:
        found.append(sock)
        await asyncio.Event().wait()

    monkeypatch.setattr(type(asyncio.get_running_loop()), "sock_connect", connect)
    return found


async def until_begun(connecting: list[socket.socket], count: int = 1) -> None:
    async with asyncio.timeout(10):
        while len(connecting) < count:
            await asyncio.sleep(0.01)


@pytest.fixture(autouse=True)
def engine() -> MongodbEngine:
    return MongodbEngine("mongodb://127.0.0.1:1/?directConnection=true")


async def test_a_connect_that_is_cancelled_closes_its_socket(connecting: list[socket.socket]) -> None:
    connect = asyncio.create_task(pool_shared._async_create_connection(("127.0.0.1", 1), PoolOptions()))
    await until_begun(connecting)
    connect.cancel()
    await asyncio.wait([connect])
    assert connect.cancelled()
    assert [sock.fileno() for sock in connecting] == [-1]


async def test_an_engine_that_is_closed_while_it_connects_leaves_no_socket(
    engine: MongodbEngine, connecting: list[socket.socket]
) -> None:
    await engine.open(START)
    assert (await engine.health()).ready is False
    await until_begun(connecting)
    await engine.close(START)
    assert connecting
    assert {sock.fileno() for sock in connecting} == {-1}
