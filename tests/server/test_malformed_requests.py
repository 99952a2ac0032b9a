"""Requests that cannot be read: always our JSON error, never an exception, never plain text."""

from __future__ import annotations

import pytest

from tests.server.support import Client, echo, running

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.mark.parametrize(
    "sent",
    [
        b"NONSENSE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET / HTTP/2.0\r\n\r\n",
        b"get / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nno colon\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\nna me: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\na: b\x00c\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: a\r\na: b\r\n folded: c\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n",
        b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
        b"GET topics HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET * HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /caf\xc3 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /caf\xe9?q=\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"G\xc3\x89T / HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET / HTTP/1.\xc3\xa9\r\nhost: a\r\n\r\n",
        b"GET /\x01 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET ftp://host/ HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET http:/host HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT host:443 HTTP/1.1\r\nhost: host:443\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_it_is_a_bad_request(sent: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(sent)
        client.answer().assert_error(400, "bad request: ")
        client.assert_closed()
    # The application never heard of it, so the service is told.
    assert server.service.refusals == [(400, "127.0.0.1")]


@pytest.mark.parametrize("size", [1, 3, 7])
def test_it_is_the_same_in_pieces(size: int) -> None:
    sent = b"GET / HTTP/1.1\r\nhost: x\r\nbad header\r\n\r\n"
    with running(echo) as server, Client(server.port) as client:
        try:
            for start in range(0, len(sent), size):
                client.send(sent[start : start + size])
        except OSError:
            pass  # the server may have seen enough
        client.answer().assert_error(400, "bad request: malformed HTTP")


def test_a_long_id_passes() -> None:
    identity = b"%F0%9F%90%80" * 256
    assert len(identity) == 3 * 1024
    with running(echo) as server, Client(server.port) as client:
        answer = client.get(b"/v1/topics/%b/tasks/%b" % (identity, identity))
        assert answer.status == 200
        assert answer.json["path"] == "/v1/topics/" + "🐀" * 256 + "/tasks/" + "🐀" * 256


def test_forms_of_targets_arrive() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get(b"//v1/topics").json["raw_path"] == "//v1/topics"
        told = client.get(b"http://elsewhere:80/v1/a%2Fb?c=d").json
        assert (told["raw_path"], told["path"], told["query"]) == ("/v1/a%2Fb", "/v1/a/b", "c=d")
        client.send(b"OPTIONS * HTTP/1.1\r\nhost: x\r\n\r\n")
        assert client.answer().json["raw_path"] == "*"


def test_an_error_behind_a_request_in_work_comes_after_its_answer() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(
            b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /2 HTTP/1.1\r\nhost: a\r\n\r\n"
            b"GET /3 HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n"
        )
        assert client.answer().json["path"] == "/1"
        assert client.answer().json["path"] == "/2"
        client.answer().assert_error(400, "bad request: malformed HTTP")
        client.assert_closed()


def test_a_broken_body_behind_a_request_in_work_takes_its_request_along() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(
            b"GET /1 HTTP/1.1\r\nhost: a\r\n\r\n"
            b"POST /2 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"
        )
        assert client.answer().json["path"] == "/1"
        client.answer().assert_error(400, "bad request: malformed HTTP")
        client.assert_closed()


def test_a_body_that_breaks_off_in_its_chunks_is_a_bad_request() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n")
        client.send(b"nonsense\r\n")
        client.answer().assert_error(400, "bad request: malformed HTTP")
        client.assert_closed()


def test_a_defect_in_reading_is_not_blamed_on_the_client(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(method: str, target: bytes) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("ratus.server.protocol.split_target", broken)
    with running(echo) as server, Client(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n")
        client.answer().assert_error(500, "internal server error")
    assert "ZeroDivisionError" in caplog.text
