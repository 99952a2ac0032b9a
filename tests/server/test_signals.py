"""Signals and exit codes of a real process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.support import PATIENCE, Client

PROGRAM = """
import asyncio, logging, socket, sys, time
from ratus.server import run

logging.basicConfig(format="%(levelname)s %(message)s")
mode = sys.argv[1]

def tell(*words):
    print(*words, flush=True)

class Service:
    eager = frozenset()
    closing = ""
    def watch_load(self, load):
        pass

    def watch_connections(self, count):
        pass
    def refused(self, status, client):
        tell("refused", status)
    async def start(self):
        tell("start")
        if mode.startswith("blocked"):
            time.sleep(60)
        if mode == "hanging-start":
            await asyncio.sleep(60)
    def begin_shutdown(self):
        tell("begin_shutdown")
    async def close(self):
        tell("close")
        self.closing = "closing the engine"
        if mode.startswith("stuck"):
            time.sleep(60)
        if mode == "hanging-close":
            await asyncio.sleep(60)
        self.closing = ""
    def reload(self):
        tell("reload")

async def app(scope, receive, send):
    if scope["path"] == "/slow":
        tell("working")
        await asyncio.sleep(0.3)
    if scope["path"] == "/hang":
        tell("working")
        await asyncio.sleep(60)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})

def ready(address):
    tell("ready", address)

class Unread(logging.Handler):
    # A handler whose reader has stopped reading.
    def emit(self, record):
        pass
    def flush(self):
        if mode == "stuck-flush":
            time.sleep(60)

logging.getLogger().addHandler(Unread())

sock, port = None, 0
if mode.isdigit():
    port = int(mode)
elif mode != "chores":
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
bound = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
sys.exit(run(
    app, Service(), bind="127.0.0.1", port=port, sock=sock, ready=ready, shutdown_timeout_seconds=bound
))
"""


class Process:
    def __init__(self, mode: str, *more: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, mode, *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )

    def expect(self, line: str) -> str:
        assert self.process.stdout is not None
        said = self.process.stdout.readline().strip()
        assert said.startswith(line), said
        return said

    def port(self) -> int:
        self.expect("start")
        return int(self.expect("ready http://127.0.0.1:").rsplit(":", 1)[1])

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[type[Process]]:
    started: list[Process] = []

    class Started(Process):
        def __init__(self, mode: str, *more: str) -> None:
            super().__init__(mode, *more)
            started.append(self)

    yield Started
    for each in started:
        each.process.kill()
        each.process.communicate()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_first_signal_ends_in_order(start: type[Process], number: signal.Signals) -> None:
    process = start("")
    with Client(process.port()) as client:
        client.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        process.expect("working")
        process.signal(number)
        assert client.answer().body == b"ok"
        assert process.end() == (0, "begin_shutdown\nclose\n", "")


@pytest.mark.parametrize(
    ("first", "second", "code"),
    [
        (signal.SIGTERM, signal.SIGTERM, 143),
        (signal.SIGTERM, signal.SIGINT, 130),
        (signal.SIGINT, signal.SIGINT, 130),
    ],
)
def test_the_second_signal_ends_at_once(
    start: type[Process], first: signal.Signals, second: signal.Signals, code: int
) -> None:
    process = start("")
    with Client(process.port()) as client:
        client.send(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n")
        process.expect("working")
        process.signal(first)
        process.expect("begin_shutdown")
        process.signal(second)
        assert process.end() == (code, "", "")


def test_the_second_signal_ends_a_close_that_blocks_the_loop(start: type[Process]) -> None:
    process = start("stuck")
    process.port()
    process.signal(signal.SIGTERM)
    process.expect("begin_shutdown")
    process.expect("close")
    process.signal(signal.SIGTERM)
    assert process.end() == (143, "", "")


def test_the_second_signal_ends_a_start_that_blocks_the_loop(start: type[Process]) -> None:
    process = start("blocked")
    process.expect("start")
    process.signal(signal.SIGINT)
    # Signals of one kind that come too close together are one.
    time.sleep(0.1)
    process.signal(signal.SIGINT)
    assert process.end() == (130, "", "")


def test_without_a_port_the_service_runs_alone(start: type[Process]) -> None:
    process = start("chores")
    process.expect("start")
    process.expect("ready")
    process.signal(signal.SIGHUP)
    process.expect("reload")
    process.signal(signal.SIGTERM)
    assert process.end() == (0, "begin_shutdown\nclose\n", "")


def test_hangup_reloads_and_the_service_goes_on(start: type[Process]) -> None:
    process = start("")
    with Client(process.port()) as client:
        process.signal(signal.SIGHUP)
        process.expect("reload")
        assert client.get().body == b"ok"
        process.signal(signal.SIGTERM)
        assert process.end() == (0, "begin_shutdown\nclose\n", "")


def test_an_address_may_be_given_instead_of_a_socket(start: type[Process]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as finder:
        port = finder.getsockname()[1]
    process = start(str(port))
    assert process.port() == port
    with Client(port) as client:
        assert client.get().body == b"ok"
    process.signal(signal.SIGTERM)
    assert process.end() == (0, "begin_shutdown\nclose\n", "")


def test_a_taken_port_ends_with_one_line_and_leaves_the_holder_alone(start: type[Process]) -> None:
    holder = start("")
    port = holder.port()
    code, out, err = start(str(port)).end()
    assert (code, out) == (1, "")
    assert err.count("\n") == 1
    assert err.startswith(f"ERROR cannot listen on 127.0.0.1:{port}: address already in use")
    with Client(port) as client:
        assert client.get().body == b"ok"


# ---- a stop that takes too long ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "ready", "hangs"),
    [
        ("hanging-close", True, "closing the engine"),
        ("stuck-close", True, "closing the engine"),  # which blocks the event loop
        ("hanging-start", False, "the start"),
        ("blocked-start", False, "the start"),
    ],
)
def test_a_stop_that_takes_too_long_is_cut_off_and_says_what_hangs(
    start: type[Process], mode: str, ready: bool, hangs: str
) -> None:
    process = start(mode, "0.3")
    process.expect("start")
    if ready:
        process.expect("ready")
    process.signal(signal.SIGTERM)
    code, _, err = process.end()
    assert code == 1
    assert err.splitlines() == [
        "ERROR stopping took longer than 0.3 s (--shutdown-timeout) and is cut off; what hangs: " + hangs
    ]


def test_a_request_that_hangs_is_cut_off_and_the_service_is_closed(start: type[Process]) -> None:
    process = start("", "1.2")
    with Client(process.port()) as client:
        client.send(b"GET /hang HTTP/1.1\r\nhost: a\r\n\r\n")
        process.expect("working")
        process.signal(signal.SIGTERM)
        code, out, err = process.end()
    assert (code, out) == (1, "begin_shutdown\nclose\n")
    assert err.splitlines() == [
        "ERROR stopping: 1 requests in flight did not end within 0.7 s and are cut off"
    ]


def test_a_stop_in_time_is_left_alone(start: type[Process]) -> None:
    process = start("", "30")
    process.port()
    process.signal(signal.SIGTERM)
    assert process.end() == (0, "begin_shutdown\nclose\n", "")


def test_last_words_that_nobody_reads_do_not_hold_the_second_signal(start: type[Process]) -> None:
    process = start("stuck-flush")
    process.port()
    process.signal(signal.SIGTERM)
    process.expect("begin_shutdown")
    process.expect("close")
    process.signal(signal.SIGTERM)
    assert process.process.wait(PATIENCE) == 143
