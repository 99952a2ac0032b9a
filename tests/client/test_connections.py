"""Connections are kept, checked before they are used again, shared by threads, and never by two processes."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
import warnings
import weakref
from typing import Any

import pytest
import uvloop

from ratus import AsyncClient, Client, Task, TransportError
from ratus.calls import sync_connections
from ratus.calls.async_calls import MAX_REQUESTS
from ratus.testing import RatusServer
from tests.client.support import InBackground, ScriptedServer, answer, connect
from tests.servers import eventually

TASK = answer(200, b'{"_id":"1","topic":"t"}')


def test_a_connection_is_used_again(kind: str) -> None:
    with ScriptedServer([TASK] * 5) as server, connect(kind, server.url) as client:
        for _ in range(5):
            client.get_task("1")
        assert server.connections == 1


def test_a_connection_that_is_to_be_closed_is_not_used_again(kind: str) -> None:
    closing = answer(200, b'{"_id":"1"}', "connection: close")
    to_the_end = b'HTTP/1.1 200 OK\r\n\r\n{"_id":"1"}'
    for data, close in ((closing, False), (to_the_end, True)):
        with (
            ScriptedServer([data] * 3, close_after=close) as server,
            connect(kind, server.url, retries=0) as client,
        ):
            for _ in range(3):
                client.get_task("1")
            assert server.connections == 3


def test_a_connection_that_was_closed_meanwhile_is_noticed(kind: str) -> None:
    # Not a single call fails, although none of them is repeated.
    with (
        ScriptedServer([TASK] * 5, close_after=True) as server,
        connect(kind, server.url, retries=0) as client,
    ):
        for _ in range(5):
            client.get_task("1")
            time.sleep(0.02)  # the end of a connection takes a moment to arrive
        assert server.connections == 5


def test_a_connection_with_stray_bytes_is_dropped(kind: str) -> None:
    with ScriptedServer([TASK + b"stray", TASK]) as server, connect(kind, server.url, retries=0) as client:
        assert client.get_task("1").topic == "t"
        time.sleep(0.02)
        assert client.get_task("1").topic == "t"
        assert server.connections == 2


def test_a_connection_that_was_idle_for_long_is_dropped(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync_connections, "IDLE_SECONDS", -1.0)
    monkeypatch.setattr("ratus.calls.async_connections.IDLE_SECONDS", -1.0)
    with ScriptedServer([TASK] * 2) as server, connect(kind, server.url) as client:
        client.get_task("1")
        client.get_task("1")
        assert server.connections == 2


def test_a_late_answer_is_not_taken_for_that_of_the_next_request(kind: str) -> None:
    late = b'HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\n{"_id":"late"'
    with (
        ScriptedServer([late, TASK]) as server,
        connect(kind, server.url, retries=0, request_timeout="50ms") as client,
    ):
        with pytest.raises(TransportError):
            client.get_task("late")
        assert client.get_task("1").id == "1"


def test_few_idle_connections_are_kept(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url) as client:
        many = [InBackground(client.get_liveness) for _ in range(100)]
        for each in many:
            each.join()
        inner = getattr(client, "_target", client)
        assert len(inner._transport._idle) <= sync_connections.MAX_IDLE


def test_threads_share_a_client(server: RatusServer) -> None:
    with Client(server.url) as client:
        client.insert_tasks((Task(id=str(n)) for n in range(200)), topic="t")
        found: list[str] = []

        def work() -> None:
            while delivery := client.poll("t"):
                delivery.commit()
                found.append(delivery.id)

        workers = [InBackground(work) for _ in range(8)]
        for worker in workers:
            worker.join()
        assert sorted(found, key=int) == [str(n) for n in range(200)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_does_not_use_the_connections_of_its_parent() -> None:
    with ScriptedServer([TASK] * 3) as server, Client(server.url) as client:
        client.get_task("1")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # threads of the test itself are running
            child = os.fork()
        if not child:
            try:
                client.get_task("1")
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert server.connections == 2
        client.get_task("1")
        assert server.connections == 2


# ---- asyncio --------------------------------------------------------------------------------------


def test_an_async_client_moves_from_loop_to_loop(server: RatusServer) -> None:
    client = AsyncClient(server.url)

    async def use() -> None:
        await client.insert_tasks([Task(id="1", topic="t")])
        assert (await client.get_task("1")).topic == "t"

    async def end() -> None:
        async with client:
            await use()

    left: list[weakref.ref[object]] = []
    with warnings.catch_warnings():
        # The connections of a loop that is closed before them complain when they are collected.
        warnings.simplefilter("ignore", ResourceWarning)
        for _ in range(3):
            asyncio.run(use())
            transport: Any = client._transport
            left += map(weakref.ref, transport._idle)
        asyncio.run(end())
        assert left

        def collected() -> bool:
            # A server of this process may have put them out of the collector's sight, or be collecting now.
            gc.unfreeze()
            gc.collect()
            return not any(connection() for connection in left)

        eventually(collected, "the connections of closed loops are collected")


def test_an_async_client_works_on_uvloop(live: RatusServer) -> None:
    async def use() -> None:
        async with AsyncClient(live.url) as client:
            await client.insert_tasks((Task(id=str(n)) for n in range(100)), topic="t")
            done = 0

            async def handle(delivery: Any) -> None:
                nonlocal done
                done += 1
                if done == 100:
                    client.stop()

            await client.subscribe("t", handle, concurrency=4, signals=False)
            states = (await client.get_topic("t")).states
            assert states is not None
            assert states.completed == 100

    uvloop.run(use())


def test_an_async_client_bounds_its_connections(server: RatusServer) -> None:
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            inserts = [client.insert_task(Task(id=str(n), topic="t")) for n in range(MAX_REQUESTS * 3)]
            await asyncio.gather(*inserts)
            topic = await client.get_topic("t")
            assert topic.count == MAX_REQUESTS * 3
            assert client._slots._value == MAX_REQUESTS

    asyncio.run(use())


def test_a_cancelled_call_gives_its_connection_up(server: RatusServer) -> None:
    async def use() -> None:
        async with AsyncClient(server.url) as client:
            poll = asyncio.create_task(client.poll("t", wait="20s"))
            await asyncio.sleep(0.05)
            poll.cancel()
            with pytest.raises(asyncio.CancelledError):
                await poll
            # The server has noticed that the poller is gone, and gives the task to one that is there.
            await client.insert_task(Task(id="1", topic="t"))
            delivery = await client.poll("t")
            assert delivery is not None
            assert (await delivery.commit()).attempts == 1

    asyncio.run(use())


def test_a_client_leaves_no_threads_and_no_sockets_behind(kind: str, server: RatusServer) -> None:
    def open_sockets() -> int:
        return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0

    with connect(kind, server.url) as client:
        client.get_liveness()
    threads, sockets = threading.active_count(), open_sockets()
    for _ in range(5):
        with connect(kind, server.url) as client:
            client.get_liveness()
    assert threading.active_count() == threads
    deadline = time.monotonic() + 5
    while open_sockets() > sockets + 1:  # the server closes its ends in its own time
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_host_with_several_addresses(server: RatusServer, kind: str) -> None:
    port = server.url.rpartition(":")[2]
    try:
        socket.getaddrinfo("localhost", port)
    except OSError:
        pytest.skip("this machine does not know localhost")
    with connect(kind, f"http://localhost:{port}") as client:
        client.get_liveness()
