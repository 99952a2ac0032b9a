"""A worker stops within its grace period and some seconds, whatever its server and its network do."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ratus import AsyncClient, Client, Task, TaskState, TransportError
from ratus.testing import RatusServer
from ratus.worker import base
from tests.client.blackhole import Blackhole
from tests.client.support import PATIENCE, InBackground, connect

ROOT = Path(__file__).parents[2]

SECONDS = 4 * base.INTERRUPT_SECONDS + base.FINISH_SECONDS
"""How long the parts of a stop may take beside the grace period."""


@pytest.fixture
def network(live: RatusServer) -> Iterator[Blackhole]:
    """The network between the client under test and the server."""
    with Blackhole(live.url) as made:
        yield made


@pytest.mark.parametrize("while_running", [True, False], ids=["handler runs", "outcome unsent"])
def test_a_server_that_hangs_does_not_hold_up_the_stop(
    kind: str, network: Blackhole, live: RatusServer, while_running: bool, caplog: pytest.LogCaptureFixture
) -> None:
    begun, go = threading.Event(), threading.Event()

    def handle(delivery: Any) -> None:
        network.swallow_all()
        begun.set()
        if while_running:
            go.wait(PATIENCE)

    with connect(kind, network.url, request_timeout="1h", connect_timeout="1h") as client:
        with Client(live.url) as observer:
            observer.insert_task(Task(id="1", topic="t"))
        # The claim is extended meanwhile, which hangs as well.
        worker = InBackground(lambda: client.subscribe("t", handle, timeout="600ms", grace="100ms"))
        assert begun.wait(PATIENCE)
        time.sleep(0.3)
        stopped = time.monotonic()
        client.stop()
        worker.join(10 * SECONDS)
        assert time.monotonic() - stopped < 10 * SECONDS, "ten times what it takes, for a busy machine"
        go.set()
    assert "1 outcomes uncommitted" in caplog.text


def test_a_server_that_cannot_be_reached_does_not_hold_up_the_stop(kind: str) -> None:
    # A listener whose queue is full: a connection neither comes about nor is refused.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        address = full.getsockname()
        fillers = []
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(address)
            fillers.append(filler)
        with connect(kind, f"http://127.0.0.1:{address[1]}", connect_timeout="1h") as client:
            worker = InBackground(lambda: client.subscribe("t", lambda delivery: None))
            time.sleep(0.2)
            stopped = time.monotonic()
            client.stop()
            worker.join(10 * SECONDS)
            assert time.monotonic() - stopped < 10 * SECONDS
        for filler in fillers:
            filler.close()


def test_a_worker_whose_client_was_closed_ends(kind: str, live: RatusServer) -> None:
    with connect(kind, live.url) as client, Client(live.url) as observer:
        begun, go = threading.Event(), threading.Event()

        def handle(delivery: Any) -> None:
            begun.set()
            go.wait(PATIENCE)

        observer.insert_task(Task(id="1", topic="t"))
        worker = InBackground(lambda: client.subscribe("t", handle, wait="100ms"))
        assert begun.wait(PATIENCE)
        client.close()
        go.set()
        with pytest.raises(TransportError, match="the client is closed"):
            worker.join()


def test_a_worker_of_a_closed_client_ends(kind: str, live: RatusServer) -> None:
    with connect(kind, live.url) as client:
        client.close()
        with pytest.raises(TransportError, match="the client is closed"):
            InBackground(lambda: client.subscribe("t", lambda delivery: None)).join()


def test_cancelling_twice_leaves_nothing_running(live: RatusServer) -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def stubborn(delivery: Any) -> None:
            begun.set()
            while True:
                try:
                    await asyncio.sleep(3_600)
                except asyncio.CancelledError:
                    if delivery.lost:
                        ends.append(delivery.id)
                        if len(ends) > 1:
                            raise

        ends: list[str] = []
        async with AsyncClient(live.url) as client:
            await client.insert_task(Task(id="1", topic="t"))
            before = asyncio.all_tasks()
            worker = asyncio.create_task(client.subscribe("t", stubborn, signals=False))
            await begun.wait()
            worker.cancel()
            await asyncio.sleep(0.05)
            worker.cancel()
            with pytest.raises(asyncio.CancelledError):
                await worker
            left = asyncio.all_tasks() - before
            if left:
                await asyncio.wait(left, timeout=PATIENCE)
            assert asyncio.all_tasks() == before

    asyncio.run(main())


# ---- more signals -----------------------------------------------------------------------------------

HANGING = """
import asyncio, signal, sys
from ratus import AsyncClient, Client
from ratus.worker import coroutines, threads
from tests.client.blackhole import Blackhole

signal.signal(signal.SIGINT, signal.SIG_IGN)  # what is set back after the worker
threads.FINISH_SECONDS = coroutines.FINISH_SECONDS = 3600.0

with Blackhole(sys.argv[2]) as network:
    def handle(delivery):
        network.swallow_all()
        print("begun", flush=True)

    async def handle_async(delivery):
        handle(delivery)

    async def main():
        async with AsyncClient(network.url) as ratus:
            await ratus.subscribe("t", handle_async, grace="1h")

    if sys.argv[1] == "sync":
        with Client(network.url) as ratus:
            ratus.subscribe("t", handle, grace="1h")
    else:
        asyncio.run(main())
print("ended", flush=True)
"""


def test_another_signal_ends_the_wait_for_outcomes_that_cannot_be_sent(kind: str, live: RatusServer) -> None:
    with Client(live.url) as observer:
        observer.insert_task(Task(id="1", topic="t"))
    process = subprocess.Popen(
        [sys.executable, "-c", HANGING, kind, live.url],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "engines")])},
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "begun"
        process.send_signal(signal.SIGTERM)
        ended = threading.Event()

        def insist() -> None:
            while not ended.wait(0.5):
                process.send_signal(signal.SIGINT)

        insisting = threading.Thread(target=insist)
        insisting.start()
        try:
            output, _ = process.communicate(timeout=PATIENCE)
        finally:
            ended.set()
            insisting.join()
        assert "1 outcomes uncommitted" in output
        assert "ended" in output
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
    with Client(live.url) as observer:
        assert observer.get_task("1").state is TaskState.ACTIVE
