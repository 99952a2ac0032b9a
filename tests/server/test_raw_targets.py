"""Raw UTF-8 in the request line is served, as Ratus does; what is not UTF-8 is a bad request."""

from __future__ import annotations

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.server.target import encode_raw_target
from tests.server.support import Client, echo, running

pytestmark = pytest.mark.usefixtures("both_ways")

TARGET = "/tópicos/任务/🐀?q=ü&ß=%C3%A9"
HEAD = f"GET {TARGET} HTTP/1.1\r\nhost: a\r\nx: é\r\n\r\n".encode()
BODY = "GET /é HTTP/1.1\r\n\r\n".encode()
POST = f"POST {TARGET} HTTP/1.1\r\nhost: a\r\ncontent-length: {len(BODY)}\r\n\r\n".encode() + BODY


def assert_served(client: Client, body: bytes = b"") -> None:
    seen = client.answer().json
    assert seen["path"] == "/tópicos/任务/🐀"
    assert seen["raw_path"] == quote("/tópicos/任务/🐀")
    assert seen["query"] == "q=%C3%BC&%C3%9F=%C3%A9"
    assert seen["body"].encode("latin-1") == body


def test_it_is_served_and_the_body_is_not_touched() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(HEAD)
        assert_served(client)
        client.send(b"\r\n" + POST)
        assert_served(client, BODY)
        client.send(HEAD.replace(b"GET /", b"GET http://a/"))
        assert_served(client)


def test_a_body_that_comes_later_is_not_touched() -> None:
    with running(echo) as server, Client(server.port) as client:
        for message in (POST, POST):
            client.send(message[: -len(BODY)])
            client.send(BODY)
            assert_served(client, BODY)


def test_a_chunked_body_is_not_touched() -> None:
    head = POST.partition(b"content-length")[0] + b"transfer-encoding: chunked\r\n\r\n"
    with running(echo) as server, Client(server.port) as client:
        client.send(head + b"%x\r\n" % len(BODY))
        client.send(BODY + b"\r\n0\r\n\r\n")
        assert_served(client, BODY)


def test_the_longest_name_is_served_however_much_follows_it() -> None:
    name = "ü" * 512
    target = f"POST /topics/{name}/tasks/{name} HTTP/1.1\r\nhost: a\r\ncontent-length: 9000\r\n\r\n"
    with running(echo) as server, Client(server.port) as client:
        client.send(target.encode() + b"\xc3\xa9" * 4500)
        seen = client.answer().json
        assert seen["path"] == f"/topics/{name}/tasks/{name}"
        assert seen["body"] == 9000


@given(st.binary())
def test_only_the_first_line_is_encoded_and_only_if_it_is_utf_8(data: bytes) -> None:
    encoded = encode_raw_target(data)

    start = len(data) - len(data.lstrip(b"\r\n"))
    line, end, rest = data[start:].partition(b"\n")
    try:
        expected = quote(line.decode(), safe=bytes(range(128))).encode() if end else line
    except UnicodeDecodeError:
        expected = line
    assert encoded == data[:start] + expected + end + rest
