"""Starting, serving and stopping, within one process."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest
from starlette.types import Receive, Scope, Send

from ratus.core.errors import StartupError
from ratus.server import ConnectionLimits, run
from ratus.server.lifecycle import Lifecycle
from ratus.server.listener import tls_context
from tests.server.support import PATIENCE, Client, SilentService, answer, echo, running

pytestmark = pytest.mark.usefixtures("both_ways")


class Gate:
    """An application whose ``/slow`` waits until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            self.entered.set()
            while not self.opened.is_set():
                await asyncio.sleep(0.005)
        await answer(send, b"done")


def refused(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:  # it was still listening as the connection began
        return False
    return False


def wait_refused(port: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not refused(port):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_service_lives_from_start_to_close() -> None:
    with running(echo) as server:
        with Client(server.port) as client:
            assert client.get().status == 200
        assert server.service.calls == ["start"]
        server.stop()
        assert server.join() == 0
        assert server.service.calls == ["start", "begin_shutdown", "close"]
        assert refused(server.port)


def test_stopping_closes_what_is_idle_and_finishes_what_is_in_flight() -> None:
    gate = Gate()
    with running(gate) as server:
        idle, fresh, busy = (Client(server.port) for _ in range(3))
        assert idle.get().status == 200
        busy.send(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        assert gate.entered.wait(PATIENCE)
        server.stop()
        idle.assert_closed()
        fresh.assert_closed()
        assert refused(server.port)
        assert server.service.calls == ["start", "begin_shutdown"]
        gate.opened.set()
        last = busy.answer()
        assert (last.body, last.headers["connection"]) == (b"done", "close")
        busy.assert_closed()
        assert server.join() == 0
        assert server.service.calls == ["start", "begin_shutdown", "close"]
        for client in (idle, fresh, busy):
            client.sock.close()


def test_a_request_that_has_begun_to_arrive_is_finished() -> None:
    with running(echo) as server, Client(server.port) as client, Client(server.port) as other:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\na")
        other.send(b"GET / HT")
        # Both are known to have arrived when a later one is answered.
        with Client(server.port) as third:
            assert third.get().status == 200
        server.stop()
        wait_refused(server.port)
        client.send(b"bc")
        other.send(b"TP/1.1\r\nhost: a\r\n\r\n")
        for each in (client, other):
            last = each.answer()
            assert (last.status, last.headers["connection"]) == (200, "close")
        assert server.join() == 0


@pytest.mark.parametrize(
    ("start", "drip"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\n", b"a: b\r\n"),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n", b"a"),
    ],
)
def test_a_request_that_never_ends_does_not_hold_the_stop(start: bytes, drip: bytes) -> None:
    limits = ConnectionLimits(header_seconds=0.3, body_seconds=0.3, linger_seconds=0.1)
    with running(echo, limits=limits) as server, Client(server.port) as client:
        client.send(start)
        with Client(server.port) as other:
            assert other.get().status == 200
        server.stop()
        started = time.monotonic()
        while server.thread.is_alive():
            assert time.monotonic() - started < PATIENCE
            try:
                client.send(drip)
            except OSError:
                pass
            time.sleep(0.02)
        assert server.join() == 0


def test_an_answer_that_is_not_read_does_not_hold_the_stop() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, b"a" * 20_000_000)

    with running(app, limits=ConnectionLimits(body_seconds=0.3)) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.sock.recv(1)
        server.stop()
        assert server.join() == 0


def test_the_listener_stays_open_for_the_delay() -> None:
    with running(echo, shutdown_delay_seconds=0.8) as server, Client(server.port) as kept:
        assert "connection" not in kept.get().headers
        started = time.monotonic()
        server.stop()
        while "begin_shutdown" not in server.service.calls:
            time.sleep(0.001)
        assert kept.get().headers["connection"] == "close"
        with Client(server.port) as late:
            assert late.get().headers["connection"] == "close"
        assert server.join() == 0
        assert time.monotonic() - started >= 0.8


class SlowService(SilentService):
    """Starts when it is told to."""

    def __init__(self, failure: Exception | None = None) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.opened = threading.Event()
        self.failure = failure

    async def start(self) -> None:
        self.begun.set()
        while not self.opened.is_set():
            await asyncio.sleep(0.005)
        if self.failure is not None:
            raise self.failure
        await super().start()


@pytest.fixture
def short_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ratus.server.lifecycle.PATIENCE_SECONDS", 0.05)


@pytest.mark.usefixtures("short_patience")
def test_a_slow_start_is_served_meanwhile() -> None:
    service = SlowService()
    with running(echo, service=service) as server, Client(server.port) as client:
        assert client.get().status == 200
        assert service.calls == []
        service.opened.set()
        deadline = time.monotonic() + PATIENCE
        while service.calls != ["start"]:
            assert time.monotonic() < deadline
            time.sleep(0.001)
        assert client.get().status == 200
        server.stop()
        assert server.join() == 0
    assert service.calls == ["start", "begin_shutdown", "close"]


@pytest.mark.usefixtures("short_patience")
def test_a_stop_during_the_start_waits_for_it_and_closes_in_order() -> None:
    service = SlowService()
    with running(echo, service=service) as server:
        server.stop()
        while service.calls != ["begin_shutdown"]:
            time.sleep(0.001)
        service.opened.set()
        assert server.join() == 0
    assert service.calls == ["begin_shutdown", "start", "close"]


@pytest.mark.usefixtures("short_patience")
def test_a_start_that_fails_late_ends_everything(caplog: pytest.LogCaptureFixture) -> None:
    service = SlowService(StartupError("the snapshot is damaged"))
    with running(echo, service=service) as server, Client(server.port) as client:
        assert client.get().status == 200
        service.opened.set()
        client.assert_closed()
        assert server.join() == 1
        assert refused(server.port)
    assert service.calls == []
    assert [record.getMessage() for record in caplog.records] == ["cannot start: the snapshot is damaged"]
    assert caplog.records[0].levelno == logging.ERROR


class BrokenService(SilentService):
    def __init__(self, at: str, failure: Exception) -> None:
        super().__init__()
        self.at = at
        self.failure = failure

    async def start(self) -> None:
        if self.at == "start":
            raise self.failure
        await super().start()

    async def close(self) -> None:
        await super().close()
        if self.at == "close":
            raise self.failure

    def reload(self) -> None:
        super().reload()
        raise self.failure


async def live(service: SilentService, sockets: list[socket.socket]) -> int:
    lifecycle = Lifecycle(echo, service, sockets=sockets)
    lifecycle.reload()
    asyncio.get_running_loop().call_later(0.05, lifecycle.stop)
    return await lifecycle.serve()


@pytest.mark.parametrize("failure", [StartupError("no engine"), OSError(28, "no space"), KeyError("bug")])
def test_a_start_that_fails_at_once_never_listens(
    failure: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bound = socket.socket()
    bound.bind(("127.0.0.1", 0))
    service = BrokenService("start", failure)
    assert asyncio.run(live(service, [bound])) == 1
    assert bound.fileno() == -1
    assert service.calls == ["reload"]
    failed = caplog.records[-1]
    assert failed.getMessage().startswith("cannot start: ")
    # A defect shows where it is, an operator's problem is one line.
    assert bool(failed.exc_info) == isinstance(failure, KeyError)


def test_a_close_that_fails_tells(caplog: pytest.LogCaptureFixture) -> None:
    service = BrokenService("close", StartupError("disk full"))
    assert asyncio.run(live(service, [])) == 1
    assert service.calls == ["reload", "start", "begin_shutdown", "close"]
    assert caplog.records[-1].getMessage() == "the service did not close cleanly: disk full"


def test_a_reload_that_fails_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    service = BrokenService("reload", OSError("no such file"))
    assert asyncio.run(live(service, [])) == 0
    assert [record.getMessage() for record in caplog.records] == [
        "reloading failed, what was read before stays in force"
    ]


def test_a_port_taken_between_binding_and_listening_closes_the_engine(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        second.bind(("127.0.0.1", port))
        first.listen()
        service = SilentService()
        assert asyncio.run(live(service, [second])) == 1
    assert service.calls == ["reload", "start", "begin_shutdown", "close"]
    assert caplog.records[-1].getMessage() == (
        f"cannot listen on 127.0.0.1:{port}: address already in use; "
        "stop the program that holds it, or choose another --port (PORT)"
    )


def test_a_taken_port_is_found_before_anything_is_opened(caplog: pytest.LogCaptureFixture) -> None:
    service = SilentService()
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        assert run(echo, service, bind="127.0.0.1", port=port) == 1
    assert service.calls == []
    assert [record.getMessage() for record in caplog.records] == [
        f"cannot listen on 127.0.0.1:{port}: address already in use; "
        "stop the program that holds it, or choose another --port (PORT)"
    ]


def test_ipv6_is_served() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 on this machine")
    with (
        running(echo, family=socket.AF_INET6) as server,
        Client(server.port, host="::1") as client,
    ):
        assert client.get().status == 200


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("tls")
    cert, key = folder / "cert.pem", folder / "key.pem"
    subprocess.run(
        [
            *(
                "openssl",
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:prime256v1",
                "-nodes",
            ),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "1"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    return cert, key


def test_tls_is_served_and_guarded(certificate: tuple[Path, Path]) -> None:
    cert, key = certificate
    trusting = ssl.create_default_context(cafile=str(cert))
    with running(
        echo,
        tls=tls_context(str(cert), str(key)),
        limits=ConnectionLimits(header_seconds=3, linger_seconds=0.2),
    ) as server:
        with Client(server.port, trusting) as client:
            assert client.get().json["scheme"] == "https"
            client.send(b"GET / HT")
            server.let_pass(10)
            client.answer().assert_error(408, "request timeout")
        with Client(server.port, trusting) as client:
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n")
            client.answer().assert_error(400, "bad request")
            client.assert_closed()
        # Plain bytes, and silence before the handshake.
        for sent in (b"GET / HTTP/1.1\r\nhost: a\r\n\r\n", b""):
            with Client(server.port) as client:
                client.send(sent)
                try:
                    client.rest()
                except ConnectionResetError:
                    pass
        with Client(server.port, trusting) as client:
            assert client.get().status == 200
            server.stop()
            assert server.join() == 0
