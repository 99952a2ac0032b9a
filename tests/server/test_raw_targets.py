"""Raw UTF-8 in the request line is served, as Ratus does; what is not UTF-8 is a bad request."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from ratus.server import ConnectionLimits
from ratus.server.raw_targets import feed_raw
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


@pytest.mark.parametrize("pieces", [1, 7])
def test_a_raw_target_counts_as_much_as_an_encoded_one(pieces: int) -> None:
    with running(echo, limits=ConnectionLimits(header_bytes=3000)) as server:
        for size, status in ((480, 200), (520, 431)):
            raw = f"GET /{'é' * size} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
            for sent in (raw, quote(raw, safe=bytes(range(128))).encode()):
                with Client(server.port) as client:
                    step = -(-len(sent) // pieces)
                    for start in range(0, len(sent), step):
                        client.send(sent[start : start + step])
                    assert client.answer().status == status


class Counting:
    """A parser that is in the middle of a message, whatever it is fed."""

    def __init__(self, missing: int) -> None:
        self._missing = missing
        self.fed: list[bytes] = []

    def feed(self, data: bytes) -> None:
        self.fed.append(data)

    def within_target(self) -> bool:
        return False

    def missing(self) -> int:
        return self._missing


@pytest.mark.parametrize("begun", [False, True])
@pytest.mark.parametrize("missing", [0, 100_000_000])
def test_bytes_that_look_like_many_targets_are_fed_in_few_parts(missing: int, begun: bool) -> None:
    data = "GET /é".encode() * 100_000
    reader = Counting(missing)
    assert feed_raw(reader, data, begun) == b""
    assert b"".join(reader.fed) == data
    assert len(reader.fed) == 2
