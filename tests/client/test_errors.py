"""Every answer that is no success becomes one error of the tree, and nothing else ever escapes."""

from __future__ import annotations

import gzip
import socket
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratus import (
    BadRequest,
    Conflict,
    Forbidden,
    HeadersTooLarge,
    InternalError,
    MethodNotAllowed,
    NotFound,
    PayloadTooLarge,
    RatusError,
    RequestTimeout,
    ServiceUnavailable,
    Task,
    TransportError,
    Unauthorized,
)
from ratus.calls.http1 import Response
from ratus.calls.responses import error_of
from ratus.testing import RatusServer
from tests.client.support import ScriptedServer, answer, connect

KINDS = [
    (400, BadRequest, "bad request"),
    (401, Unauthorized, "unauthorized"),
    (403, Forbidden, "forbidden"),
    (404, NotFound, "not found"),
    (408, RequestTimeout, "request timeout"),
    (409, Conflict, "conflict"),
    (413, PayloadTooLarge, "content too large"),
    (431, HeadersTooLarge, "request header fields too large"),
    (500, InternalError, "internal server error"),
    (503, ServiceUnavailable, "service unavailable"),
]


def error_body(code: int, message: str) -> bytes:
    return b'{"error":{"code":%d,"message":"%b"}}' % (code, message.encode())


@pytest.mark.parametrize(("status", "error", "phrase"), KINDS)
def test_each_status_is_an_error_of_its_own(
    kind: str, status: int, error: type[RatusError], phrase: str
) -> None:
    for message in (phrase, f"{phrase}: why"):
        with (
            ScriptedServer([answer(status, error_body(status, message))] * 9) as server,
            connect(kind, server.url) as client,
        ):
            with pytest.raises(error) as caught:
                client.get_task("1")
            assert type(caught.value) is error
            assert (caught.value.status, str(caught.value)) == (status, message)


def test_a_wrong_method_tells_the_right_ones() -> None:
    error = error_of(Response(405, error_body(405, "method not allowed: use GET, PUT"), "GET, PUT"))
    assert isinstance(error, MethodNotAllowed)
    assert error.allowed == ("GET", "PUT")
    assert str(error) == "method not allowed: use GET, PUT"


@pytest.mark.parametrize("status", [302, 402, 418, 429, 501])
def test_any_other_status_is_an_error_all_the_same(kind: str, status: int) -> None:
    with ScriptedServer([answer(status, b"<h1>No</h1>")] * 9) as server, connect(kind, server.url) as client:
        with pytest.raises(RatusError, match="<h1>No</h1>") as caught:
            client.get_task("1")
        assert caught.value.status == status


@pytest.mark.parametrize("status", [502, 503, 504])
def test_a_gateway_without_a_server_is_unavailable(kind: str, status: int) -> None:
    script = [answer(status, b"<html>Bad gateway</html>")] * 2 + [answer(200, b'{"_id":"1","topic":"t"}')]
    with ScriptedServer(script) as server, connect(kind, server.url) as client:
        assert client.get_task("1").topic == "t"
    with ScriptedServer(script) as server, connect(kind, server.url, retries=1) as client:
        with pytest.raises(ServiceUnavailable) as caught:
            client.get_task("1")
        assert caught.value.status == status


@pytest.mark.parametrize(
    "body",
    [b"", b"<html>", b"[]", b'{"data":1}', b'{"data":[1]}', b"\xff", b"[" * 9_999, b'{"_id":1}', b"{}"],
)
def test_an_answer_of_something_else_is_a_transport_error(kind: str, body: bytes) -> None:
    calls: list[Callable[[Any], Any]] = [
        lambda client: client.poll("t"),
        lambda client: client.list_tasks("t"),
        lambda client: client.insert_task(Task(id="1", topic="t")),
        lambda client: client.list_topics(),
        lambda client: client.delete_task("1"),
    ]
    for call in calls:
        with (
            ScriptedServer([answer(200, body)] * 9) as server,
            connect(kind, server.url, retries=0) as client,
            pytest.raises(TransportError, match="is this its address"),
        ):
            call(client)


def test_a_404_of_something_else_is_not_an_empty_topic(kind: str) -> None:
    with (
        ScriptedServer([answer(404, b"<html>nginx</html>")] * 9) as server,
        connect(kind, server.url) as client,
        pytest.raises(TransportError, match="nginx"),
    ):
        client.poll("t")


BROKEN: list[bytes | None] = [
    None,
    b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhalf",
    b"HTTP/1.1 200 OK\r\ncontent-le",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: ten\r\n\r\n",
    b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n",
    answer(200, b"not gzip", "content-encoding: gzip"),
    answer(200, b"{}", "content-encoding: br"),
]


@pytest.mark.parametrize("data", BROKEN)
def test_a_broken_answer_is_a_transport_error(kind: str, data: bytes | None) -> None:
    with (
        ScriptedServer([data] * 9, close_after=True) as server,
        connect(kind, server.url, retries=0) as client,
    ):
        with pytest.raises(TransportError) as caught:
            client.get_task("1")
        assert caught.value.sent
        assert caught.value.status == 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200) | st.binary(max_size=60).map(lambda end: b"HTTP/1.1 200 OK\r\n" + end))
def test_whatever_comes_back_only_errors_of_the_tree_escape(kind: str, data: bytes) -> None:
    with (
        ScriptedServer([data] * 2, close_after=True) as server,
        connect(kind, server.url, retries=0, request_timeout="2s") as client,
    ):
        try:
            client.get_task("1")
        except RatusError:
            pass


def test_an_answer_that_does_not_come_is_a_transport_error(kind: str) -> None:
    with (
        ScriptedServer([b"HTTP/1.1 200 OK\r\n"]) as server,
        connect(kind, server.url, retries=0, request_timeout="50ms") as client,
        pytest.raises(TransportError, match=r"within 0\.05 s"),
    ):
        client.get_task("1")


def test_a_host_that_does_not_exist_is_a_transport_error(kind: str) -> None:
    with connect(kind, "http://nowhere.invalid:80", retries=0) as client:
        with pytest.raises(TransportError, match="cannot connect") as caught:
            client.get_task("1")
        assert not caught.value.sent


def test_a_server_that_does_not_accept_is_a_transport_error(kind: str) -> None:
    # With nobody to accept and a queue of one, the third connection is left hanging by the system.
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener:
        address = listener.getsockname()
        crowd = []
        for _ in range(4):
            each = socket.socket()
            each.setblocking(False)
            each.connect_ex(address)
            crowd.append(each)
        with (
            connect(kind, f"http://127.0.0.1:{address[1]}", retries=0, connect_timeout="50ms") as client,
            pytest.raises(TransportError),
        ):
            client.get_task("1")
        for each in crowd:
            each.close()


def test_a_body_that_is_far_too_large_is_refused_and_not_reset(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url, retries=0) as client:
        for size in (5_000_000, 30_000_000):
            with pytest.raises(PayloadTooLarge):
                client.insert_task(Task(id="1", topic="t", payload="x" * size))
        client.insert_task(Task(id="1", topic="t", payload="x" * 3_000_000))
        assert len(client.get_task("1").payload) == 3_000_000


def test_a_wrong_token_is_unauthorized_and_a_small_one_forbidden(kind: str) -> None:
    with RatusServer("--auth-tokens", "all small:produce") as server:
        with connect(kind, server.url, token="all") as client:
            assert client.delete_topics() == 0
        with connect(kind, server.url, token="small") as client:
            client.insert_task(Task(id="1", topic="t"))
            with pytest.raises(Forbidden):
                client.poll("t")
        with connect(kind, server.url) as client, pytest.raises(Unauthorized):
            client.list_topics()


def test_compressed_answers_are_unpacked(kind: str, server: RatusServer) -> None:
    with connect(kind, server.url, compress=True) as client:
        client.insert_tasks((Task(id=str(n), payload="x" * 1_000) for n in range(100)), topic="t")
        assert len(client.list_tasks("t", limit=100)) == 100
    packed = answer(200, gzip.compress(b'{"_id":"1","topic":"t"}'), "Content-Encoding: GZIP")
    with ScriptedServer([packed]) as scripted, connect(kind, scripted.url, compress=True) as client:
        assert client.get_task("1").topic == "t"
        assert b"accept-encoding: gzip" in scripted.requests[0]


# ---- TLS ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that only those trust who are told to, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=ratus -addext "
        f"subjectAltName=IP:127.0.0.1 -keyout {folder}/key.pem -out {folder}/certificate.pem"
    )
    try:
        subprocess.run(command.split(), capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip("no openssl on this machine")
    return folder / "certificate.pem", folder / "key.pem"


def test_https_with_a_certificate_that_is_trusted_and_one_that_is_not(
    kind: str, certificate: tuple[Path, Path]
) -> None:
    with RatusServer(real_clock=True, tls=certificate) as server:
        assert server.url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(certificate[0]))
        with connect(kind, server.url, tls=trusting) as client:
            client.insert_task(Task(id="1", topic="t"))
            assert client.poll("t", wait="1s").commit().state == 2
        with connect(kind, server.url, retries=0) as client:
            with pytest.raises(TransportError, match="not trusted") as caught:
                client.list_topics()
            assert not caught.value.sent
