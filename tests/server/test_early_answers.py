"""Answers given before the request is complete: the client gets to see them, and its bytes are not kept."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from starlette.types import ASGIApp, Receive, Scope, Send

from ratus.server import ConnectionLimits
from tests.server.support import Client, answer, echo, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")


async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 413 without a look at the body."""
    await answer(send, b"too large", 413)


async def refuse_soon(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer 413 after the first part of the body."""
    await receive()
    await answer(send, b"too large", 413)


@pytest.mark.parametrize("app", [refuse, refuse_soon])
def test_a_client_in_the_middle_of_its_upload_sees_the_answer(app: ASGIApp) -> None:
    with running(app) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n" + b"a" * 100_000)
        refused = client.answer()
        assert (refused.status, refused.body, refused.headers["connection"]) == (413, b"too large", "close")
        # Not a reset, although it goes on for a while.
        for _ in range(10):
            client.send(b"a" * 100_000)
        client.half_close()
        client.assert_closed()


def test_an_upload_that_does_not_end_is_cut_off() -> None:
    limits = ConnectionLimits(linger_seconds=0.3, linger_bytes=1_000_000)
    with running(refuse, limits=limits) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000\r\n\r\n")
        assert client.answer().status == 413
        sent = 0
        try:
            while sent < 100_000_000:
                sent += client.sock.send(b"a" * 100_000)
        except OSError:
            pass
        # What was dropped, and what the two sockets hold.
        assert sent < 20_000_000


def test_a_body_is_not_read_faster_than_the_application_takes_it() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        largest = 0
        while True:
            message = await receive()
            largest = max(largest, len(message["body"]))
            if not message["more_body"]:
                break
        await answer(send, b"%d" % largest)

    size = 30_000_000
    with running(app) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size)
        client.send(b"a" * size)
        # What is held at most, and one read of the event loop.
        assert int(client.answer().body) <= 65_536 + 256_000


def test_curl_sees_the_answer_to_a_large_upload(tmp_path: Path) -> None:
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(1_000_000_000)
    with running(refuse_soon) as server:
        url = f"http://127.0.0.1:{server.port}/"
        for extra in ([], ["-H", "Expect:"], ["-H", "Transfer-Encoding: chunked"]):
            curl = subprocess.run(
                ["curl", "-sS", "-w", "%{http_code}", "-X", "POST", "-T", str(upload), *extra, url],
                capture_output=True,
                text=True,
                timeout=30,
            )
            assert (curl.stdout, curl.stderr) == ("too large413", ""), extra


def test_an_answer_to_a_complete_request_keeps_the_connection() -> None:
    with running(refuse) as server, Client(server.port) as client:
        for _ in range(2):
            client.send(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc")
            refused = client.answer()
            assert refused.status == 413
            assert "connection" not in refused.headers


def test_the_client_is_told_to_continue_when_the_body_is_wanted() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-Continue\r\ncontent-length: 3\r\n\r\n")
        assert client.answer().status == 100
        client.send(b"abc")
        assert client.answer().json["body"] == "abc"
        # The next one did not ask.
        assert client.get().status == 200


def test_the_client_is_not_told_to_continue_when_the_answer_comes_first() -> None:
    with running(refuse) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        refused = client.answer()
        assert (refused.status, refused.headers["connection"]) == (413, "close")
        client.assert_closed()


def test_an_answer_may_be_streamed_while_the_body_comes() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"first ", "more_body": True})
        body = await read_body(receive)
        assert body is not None
        await send({"type": "http.response.body", "body": body, "more_body": False})

    with running(app) as server, Client(server.port) as client:
        # Once the answer has begun, a 100 would stand in the middle of it.
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n")
        assert client._until(b"first \r\n")
        client.send(b"abc")
        assert client.rest() == b"3\r\nabc\r\n0\r\n\r\n"
