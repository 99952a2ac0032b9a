"""Requests that two servers may read differently are refused (RFC 9112), and their connection ends."""

from __future__ import annotations

import pytest

from tests.server.support import Client, echo, running

pytestmark = pytest.mark.usefixtures("both_ways")

CHUNKS = b"3\r\nabc\r\n0\r\n\r\n"


def head(*lines: bytes, start: bytes = b"POST / HTTP/1.1") -> bytes:
    return b"\r\n".join((start, *lines, b"", b""))


def assert_refused(sent: bytes, status: int, message: str) -> None:
    # What an attacker would have taken for a second request must not be one.
    smuggled = b"GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
    with running(echo) as server, Client(server.port) as client:
        client.send(sent + smuggled)
        client.answer().assert_error(status, message)
        client.assert_closed()
        assert server.service.refusals == [(status, "127.0.0.1")]
    # Behind a request that is answered it is the same.
    with running(echo) as server, Client(server.port) as client:
        client.send(head(b"host: a", start=b"GET /first HTTP/1.1") + sent + smuggled)
        assert client.answer().json["path"] == "/first"
        client.answer().assert_error(status, message)
        client.assert_closed()


@pytest.mark.parametrize("start", [b"GET / HTTP/1.1", b"POST / HTTP/1.1", b"GET http://a/ HTTP/1.1"])
def test_http_1_1_needs_a_host(start: bytes) -> None:
    assert_refused(head(start=start), 400, "bad request: HTTP/1.1 needs the header Host")


@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
@pytest.mark.parametrize("lines", [(b"host: a", b"host: b"), (b"host: a", b"Host: a"), (b"host:", b"HOST:")])
def test_two_hosts_are_refused(lines: tuple[bytes, ...], version: bytes) -> None:
    start = b"GET / HTTP/" + version
    assert_refused(head(*lines, start=start), 400, "bad request: the header host comes twice")


@pytest.mark.parametrize(
    "host",
    [
        b"a b",
        b"a/b",
        b"http://a",
        b"user@a",
        b"a:b",
        b"a:80:80",
        b"[::1",
        b"::1",
        b"a?b",
        b"a#b",
        b"\xc3\xa9",
    ],
)
def test_a_malformed_host_is_refused(host: bytes) -> None:
    for version in (b"1.0", b"1.1"):
        assert_refused(
            head(b"host: " + host, start=b"GET / HTTP/" + version), 400, "bad request: the header Host"
        )


@pytest.mark.parametrize(
    "host",
    [b"", b"a", b"A.example:80", b"127.0.0.1:8000", b"[::1]:80", b"[fe80::1]", b"a_b", b"a:", b"%C3%A9"],
)
def test_a_host_passes(host: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        for _ in range(2):
            client.send(head(b"host: " + host, start=b"GET / HTTP/1.1"))
            assert client.answer().status == 200


def test_http_1_0_needs_no_host() -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(head(start=b"GET / HTTP/1.0"))
        assert client.answer().status == 200


def test_each_request_of_a_connection_is_looked_at() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get().status == 200
        client.send(head(start=b"GET / HTTP/1.1"))
        client.answer().assert_error(400, "bad request: HTTP/1.1 needs the header Host")


@pytest.mark.parametrize(
    "lines",
    [
        (b"transfer-encoding: gzip, chunked",),
        (b"transfer-encoding: gzip", b"transfer-encoding: chunked"),
        (b"Transfer-Encoding: Deflate,Chunked",),
        (b"transfer-encoding: identity, chunked",),
    ],
)
def test_other_codings_than_chunked_are_not_implemented(lines: tuple[bytes, ...]) -> None:
    assert_refused(head(b"host: a", *lines) + CHUNKS, 501, "not implemented: the only transfer coding")


@pytest.mark.parametrize(
    "lines",
    [
        (b"transfer-encoding: gzip",),
        (b"transfer-encoding: identity",),
        (b"transfer-encoding: xchunked",),
        (b"transfer-encoding: chunked;a=b",),
        (b"transfer-encoding:",),
        (b"transfer-encoding: chunked, gzip",),
        (b"transfer-encoding: chunked, chunked",),
        (b"transfer-encoding: chunked", b"transfer-encoding: chunked"),
        (b"transfer-encoding: chunked", b"transfer-encoding: identity"),
        (b"transfer-encoding: chunked", b"content-length: 3"),
        (b"content-length: 3", b"transfer-encoding: chunked"),
        (b"content-length: 3", b"transfer-encoding: gzip"),
        (b"content-length: 3", b"content-length: 3"),
        (b"content-length: 3", b"content-length: 4"),
        (b"content-length: 3, 3",),
        (b"content-length: +3",),
        (b"content-length: 0x3",),
        (b"content-length: 3 3",),
        (b"content-length:",),
        (b"content-length: 99999999999999999999999",),
        (b"content-length : 3",),
        (b"content-length\t: 3",),
        (b"transfer-encoding : chunked",),
        (b"transfer-encoding:\r\n chunked",),
        (b"a: b\r\n c",),
        (b"a: b\rcontent-length: 3",),
        (b"a: b\ncontent-length: 3",),
        (b" a: b",),
        (b": b",),
        (b"\xc3\xa9: b",),
        (b"transfer-encoding: \x0bchunked",),
        (b"transfer-encoding: chunked\x00",),
    ],
)
def test_a_body_without_a_clear_end_is_a_bad_request(lines: tuple[bytes, ...]) -> None:
    assert_refused(head(b"host: a", *lines) + CHUNKS, 400, "bad request")


@pytest.mark.parametrize(
    "lines", [(b"transfer-encoding: chunked",), (b"host: a", b"transfer-encoding: chunked")]
)
def test_http_1_0_knows_no_chunks(lines: tuple[bytes, ...]) -> None:
    sent = head(*lines, start=b"POST / HTTP/1.0") + CHUNKS
    assert_refused(sent, 400, "bad request: HTTP/1.0 knows no Transfer-Encoding")


@pytest.mark.parametrize(
    "chunks",
    [
        b"3\nabc\r\n0\r\n\r\n",
        b"3 \r\nabc\r\n0\r\n\r\n",
        b"0x3\r\nabc\r\n0\r\n\r\n",
        b"+3\r\nabc\r\n0\r\n\r\n",
        b"-3\r\nabc\r\n0\r\n\r\n",
        b"3\r\nabcd\r\n0\r\n\r\n",
        b"3;a\nb\r\nabc\r\n0\r\n\r\n",
        b"ffffffffffffffffff\r\nabc",
    ],
)
def test_chunks_without_a_clear_end_are_a_bad_request(chunks: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(head(b"host: a", b"transfer-encoding: chunked") + chunks)
        client.answer().assert_error(400, "bad request: malformed HTTP")
        client.assert_closed()


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" chunked "])
def test_chunks_pass(coding: bytes) -> None:
    with running(echo) as server, Client(server.port) as client:
        client.send(head(b"host: a", b"transfer-encoding:" + coding) + CHUNKS)
        assert client.answer().json["body"] == "abc"


@pytest.mark.parametrize("name", [b"authorization", b"origin", b"sec-fetch-site"])
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
def test_what_decides_who_may_do_something_comes_once(name: bytes, version: bytes) -> None:
    sent = head(b"host: a", name + b": x", b"b: c", name.title() + b": x", start=b"GET / HTTP/" + version)
    assert_refused(sent, 400, f"bad request: the header {name.decode()} comes twice")


def test_other_headers_may_come_twice() -> None:
    with running(echo) as server, Client(server.port) as client:
        assert client.get(extra=b"accept: a\r\naccept: b\r\nx: 1\r\nx: 2\r\n").status == 200
