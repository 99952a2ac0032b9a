"""Answers on the wire: framing, HEAD, HTTP/1.0, upgrades, and applications that fail."""

from __future__ import annotations

import asyncio
import json
import logging

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tests.server.support import Client, answer, echo, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> Message:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


def sending(*messages: Message) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        for message in messages:
            await send(message)

    return app


def test_requests_follow_each_other_on_one_connection() -> None:
    with running(echo) as server, Client(server.port) as client:
        for number in range(3):
            told = client.get(b"/%d?a=b" % number)
            assert told.json["raw_path"] == f"/{number}"
            assert told.json["query"] == "a=b"
            assert "connection" not in told.headers
            assert "date" in told.headers
            assert "server" not in told.headers
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        assert client.answer().headers["connection"] == "close"
        client.assert_closed()


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, 3_000_000])
def test_bodies_of_every_size_arrive(size: int) -> None:
    sent = b"x" * size
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST /1 HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % size + sent)
        assert client.answer().json["body"] == (size if size > 1000 else sent.decode())
        pieces = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in (sent[:7], sent[7:]) if piece)
        client.send(
            b"POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n" + pieces + b"0\r\n\r\n"
        )
        assert client.answer().json["body"] == (size if size > 1000 else sent.decode())


def test_a_request_may_come_byte_by_byte() -> None:
    with running(echo) as server, Client(server.port) as client:
        for byte in b"POST /a?b HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab":
            client.send(bytes([byte]))
        told = client.answer().json
        assert (told["path"], told["query"], told["body"]) == ("/a", "b", "ab")
        assert told["headers"] == [["host", "x"], ["content-length", "2"]]


def test_head_has_the_length_and_no_body() -> None:
    app = sending(start(200, (b"content-length", b"5")), body(b"hello"))
    with running(app) as server, Client(server.port) as client:
        for _ in range(2):
            client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
            assert client.answer("HEAD").headers["content-length"] == "5"
        assert client.get().body == b"hello"


def test_a_body_without_a_length_is_chunked() -> None:
    app = sending(start(), body(b"hel", more=True), body(more=True), body(b"lo", more=True), body())
    with running(app) as server, Client(server.port) as client:
        streamed = client.get()
        assert (streamed.body, streamed.headers["transfer-encoding"]) == (b"hello", "chunked")
        assert client.get().body == b"hello"


def test_http_1_0_gets_no_chunks_and_the_end_of_the_connection() -> None:
    app = sending(start(), body(b"hel", more=True), body(b"lo"))
    with running(app) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        old = client.answer()
        assert (old.body, old.headers["connection"]) == (b"hello", "close")
        assert "transfer-encoding" not in old.headers
    with running(echo) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.0\r\n\r\n")
        assert client.answer().json["version"] == "1.0"
        client.assert_closed()


def test_an_empty_answer_has_no_body() -> None:
    app = sending(start(204), body())
    with running(app) as server, Client(server.port) as client:
        for _ in range(2):
            empty = client.get()
            assert (empty.status, empty.body) == (204, b"")
            assert "transfer-encoding" not in empty.headers
            assert "content-length" not in empty.headers


def test_large_answers_come_whole() -> None:
    data = bytes(range(256)) * 40_000
    app = sending(start(200, (b"content-length", str(len(data)).encode())), body(data))
    with running(app) as server, Client(server.port) as client:
        assert client.get().body == data
        assert client.get().body == data


@pytest.mark.parametrize(
    "fields",
    [
        b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\nsec-websocket-version: 13\r\n",
        b"connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAoA\r\n",
    ],
    ids=["websocket", "h2c"],
)
def test_an_upgrade_is_not_heard(fields: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        plain = client.get(b"/", fields)
        assert plain.status == 200
        assert "upgrade" not in dict(plain.json["headers"])
        # As Java's client does it: a request with a body, and the next one behind it.
        client.send(
            b"POST /1 HTTP/1.1\r\nhost: a\r\n%bcontent-length: 3\r\n\r\nabcGET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
            % fields
        )
        told = client.answer().json
        assert (told["path"], told["body"]) == ("/1", "abc")
        assert client.answer().json["path"] == "/2"
        for byte in (
            b"POST /3 HTTP/1.1\r\nhost: a\r\n%btransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            % fields
        ):
            client.send(bytes([byte]))
        told = client.answer().json
        assert (told["path"], told["body"]) == ("/3", "abc")
        client.send(b"GET /4 HTTP/1.1\r\nhost: a\r\n%b\r\n" % fields * 50)
        assert [client.answer().json["path"] for _ in range(50)] == ["/4"] * 50


class FailingError(Exception):
    pass


async def fail(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/fine":
        await answer(send, b"fine")
        return
    if scope["path"] == "/started":
        await send(start(200, (b"content-length", b"5")))
    if scope["path"] == "/written":
        await send(start(200, (b"content-length", b"5")))
        await send(body(b"he", more=True))
    if scope["path"] == "/answered":
        await answer(send, b"answered")
    if scope["path"] != "/returned":
        raise FailingError


async def pause(scope: Scope, receive: Receive, send: Send) -> None:
    """Wait again and again, for what succeeds and for what fails, and answer or fail in the end."""
    loop = asyncio.get_running_loop()
    for _ in range(3):
        later: asyncio.Future[str] = loop.create_future()
        loop.call_soon(later.set_result, "done")
        assert await later == "done"
        await asyncio.sleep(0)
        failing: asyncio.Future[str] = loop.create_future()
        loop.call_soon(failing.set_exception, FailingError())
        with pytest.raises(FailingError):
            await failing
        assert asyncio.current_task() is not None
    if scope["path"] == "/fails":
        raise FailingError
    await answer(send, b"patient")


def test_an_application_may_pause(caplog: pytest.LogCaptureFixture) -> None:
    with running(pause) as server, Client(server.port) as client:
        assert client.get(b"/").body == b"patient"
        assert client.get(b"/fails").status == 500
        assert client.get(b"/").body == b"patient"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize("path", [b"/", b"/started", b"/returned"])
def test_a_failing_application_is_an_error_of_ours(path: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with running(fail) as server, Client(server.port) as client:
        failed = client.get(path + b"?secret")
        assert failed.json == {"error": {"code": 500, "message": "internal server error"}}
        assert failed.status == 500
        assert failed.headers["content-type"] == "application/json; charset=utf-8"
        assert client.get(b"/fine").body == b"fine"
        client.send(b"HEAD / HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.answer("HEAD").status == 500
        assert client.get(b"/fine").body == b"fine"
    records = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert len(records) == 2
    assert (records[0].exc_info is None) == (path == b"/returned")
    assert f"GET {path.decode()}" in records[0].getMessage()
    assert "secret" not in caplog.text


def test_an_answer_that_breaks_off_is_not_taken_for_a_whole_one(caplog: pytest.LogCaptureFixture) -> None:
    with running(fail) as server, Client(server.port) as client:
        client.send(b"GET /written HTTP/1.1\r\nhost: a\r\n\r\n")
        with pytest.raises((AssertionError, ConnectionResetError)):
            client.answer()
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_a_failure_after_the_answer_is_logged_only(caplog: pytest.LogCaptureFixture) -> None:
    with running(fail) as server, Client(server.port) as client:
        assert client.get(b"/answered").body == b"answered"
        assert client.get(b"/fine").body == b"fine"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.parametrize(
    "messages",
    [
        [body(b"a")],
        [start(), start()],
        [start(200, (b"content-length", b"3")), body(b"hello")],
        [start(200, (b"content-length", b"9")), body(b"hello")],
        [start(200, (b"x", b"a\r\nset-cookie: b")), body()],
        [start(200, (b"x\n", b"a")), body()],
        [start(200, (b"x", b"a\0")), body()],
    ],
    ids=["no start", "two starts", "too long", "too short", "line break", "line break in name", "nul"],
)
def test_what_must_not_be_sent_is_an_error_of_ours(
    messages: list[Message], caplog: pytest.LogCaptureFixture
) -> None:
    app = sending(*messages)
    with running(app) as server, Client(server.port) as client:
        failed = client.get()
        assert failed.status == 500
        assert "set-cookie" not in failed.headers
        assert json.loads(failed.body)["error"]["code"] == 500
    assert "RuntimeError" in caplog.text


def test_nothing_can_be_sent_after_the_answer(caplog: pytest.LogCaptureFixture) -> None:
    app = sending(start(), body(), body(b"more"))
    with running(app) as server, Client(server.port) as client:
        assert client.get().body == b""
    assert "after the answer was complete" in caplog.text
