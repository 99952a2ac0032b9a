"""The help for testing: a server in process, its clock, and the fixtures that users are given."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ratus import Client, NotFound, Retry, Task, TransportError
from ratus.testing import ManualClock, RatusServer
from ratus.testing.fixtures import ratus_client, ratus_server

__all__ = ["ratus_client", "ratus_server"]  # pytest finds fixtures by their names here


def test_the_fixtures_serve(ratus_server: RatusServer, ratus_client: Client) -> None:
    ratus_client.insert_task(Task(id="1", topic="mail", defer="1h"))
    assert ratus_client.poll("mail") is None
    ratus_server.advance("1h")
    assert ratus_client.poll("mail") is not None


def test_the_clock_begins_now_and_stands_still(ratus_server: RatusServer, ratus_client: Client) -> None:
    assert abs(ratus_server.now - datetime.now(UTC)) < timedelta(minutes=5)
    before = ratus_server.now
    ratus_client.insert_task(Task(id="1", topic="t"))
    assert ratus_client.get_task("1").produced == before == ratus_server.now


def test_an_hour_of_retries_takes_no_time(ratus_server: RatusServer, ratus_client: Client) -> None:
    ratus_client.insert_task(Task(id="1", topic="t", retry=Retry(max_attempts=4, delay="10m", jitter=0)))
    for _ in range(4):
        delivery = ratus_client.poll("t")
        assert delivery is not None
        task = delivery.fail("no").commit()
        ratus_server.advance("40m")
    assert task.outcome == "failed"


def test_deadlines_and_chores_follow_the_clock(ratus_server: RatusServer, ratus_client: Client) -> None:
    ratus_client.insert_tasks([Task(id="1"), Task(id="2", ttl="1m")], topic="t")
    first = ratus_client.poll("t", timeout="30s")
    assert first is not None
    ratus_server.advance("2m")
    assert ratus_client.get_task("1").error == "deadline exceeded"
    assert ratus_client.get_task("2").outcome == "expired"


def test_the_clock_of_a_waiting_poll_is_the_servers(ratus_server: RatusServer, ratus_client: Client) -> None:
    found: list[object] = []
    with ratus_server.client() as other:
        waiting = threading.Thread(target=lambda: found.append(other.poll("t", wait="60s")))
        waiting.start()
        ratus_client.insert_task(Task(id="1", topic="t", defer="30s"))
        while waiting.is_alive():
            ratus_server.advance("10s")
            waiting.join(0.01)
    assert found != [None]


def test_servers_are_apart_and_gone_when_stopped() -> None:
    with RatusServer() as one, RatusServer() as other, one.client() as first, other.client() as second:
        first.insert_task(Task(id="1", topic="t"))
        with pytest.raises(NotFound):
            second.get_task("1")
    with Client(one.url, retries=0) as late, pytest.raises(TransportError):
        late.get_liveness()


def test_wrong_use_is_explained() -> None:
    server = RatusServer(real_clock=True)
    with pytest.raises(RuntimeError, match="real_clock"):
        server.advance("1s")
    with server:
        with pytest.raises(RuntimeError, match="make another one"):
            server.start()
        with pytest.raises(RuntimeError, match="real_clock"):
            server.advance("1s")
    server.stop()
    with pytest.raises(ValueError, match="go back"):
        ManualClock().advance(-1)


def test_a_server_that_cannot_start_says_why() -> None:
    with RatusServer(real_clock=True) as server:
        port = int(server.url.rpartition(":")[2])
        with pytest.raises(RuntimeError, match="did not start") as caught:
            RatusServer(port=port).start()
        assert "in use" in str(caught.value.__cause__)


def test_nobody_is_left_hanging_when_it_stops() -> None:
    """Clients that come while it stops are answered, refused or cut off, but do not wait for ever."""
    hanging: list[float] = []

    def poll(port: int, delay: float) -> None:
        time.sleep(delay)
        with (
            contextlib.suppress(ConnectionError),
            socket.create_connection(("127.0.0.1", port), 10) as client,
        ):
            client.sendall(b"POST /topics/t/promises?wait=60s HTTP/1.1\r\nhost: ratus\r\n\r\n")
            try:
                client.recv(1)
            except TimeoutError:
                hanging.append(delay)

    for _ in range(10):
        with RatusServer(real_clock=True) as server:
            port = int(server.url.rpartition(":")[2])
            delays = [number / 2000 for number in range(40)]
            clients = [threading.Thread(target=poll, args=(port, delay)) for delay in delays]
            for client in clients:
                client.start()
        for client in clients:
            client.join()
    assert hanging == []


def test_the_fixtures_are_a_plugin_of_pytest(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["ratus.testing.fixtures"]\n')
    (tmp_path / "test_it.py").write_text(
        "def test_it(ratus_server, ratus_client):\n    assert ratus_client.list_topics() == []\n"
    )
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        str(tmp_path),
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert "1 passed" in done.stdout, done.stdout + done.stderr
