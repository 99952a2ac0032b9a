"""Answers are put together from pieces of any size, and requests carry what they must."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.calls.address import Address
from ratus.calls.http1 import Requests, ResponseReader
from ratus.core.errors import TransportError

WITH_LENGTH = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"
CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 5\r\n\r\nhello"
TO_THE_END = b"HTTP/1.1 200 OK\r\n\r\nhello"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + WITH_LENGTH
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"


def pieces(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({cut % len(data) for cut in cuts} | {0, len(data)})
    return [data[begin:end] for begin, end in pairwise(places)]


@given(
    data=st.sampled_from([WITH_LENGTH, CHUNKED, CLOSING, TO_THE_END, CONTINUED, EMPTY]),
    cuts=st.lists(st.integers(min_value=0, max_value=200), max_size=8),
)
def test_an_answer_in_pieces_is_the_answer(data: bytes, cuts: list[int]) -> None:
    reader = ResponseReader()
    for piece in pieces(data, cuts):
        assert not reader.complete
        reader.feed(piece)
    assert reader.complete is (data is not TO_THE_END)
    assert reader.end()
    answer = reader.response()
    assert (answer.status, answer.body) == ((204, b"") if data is EMPTY else (200, b"hello"))
    assert reader.reusable is (data not in (CLOSING, TO_THE_END))


@given(
    data=st.sampled_from([WITH_LENGTH, CHUNKED, CLOSING, CONTINUED, EMPTY]),
    size=st.integers(min_value=0, max_value=200),
)
def test_a_part_of_an_answer_is_none(data: bytes, size: int) -> None:
    reader = ResponseReader()
    part = data[: min(size, len(data) - 1)]
    if part:
        reader.feed(part)
    assert not reader.complete
    assert not reader.end()


def test_a_connection_with_more_than_one_answer_is_not_used_again() -> None:
    reader = ResponseReader()
    assert reader.feed(WITH_LENGTH + WITH_LENGTH)
    assert reader.response().body == b"hello"
    assert not reader.reusable


def test_what_is_not_http_is_refused() -> None:
    with pytest.raises(TransportError, match="not HTTP"):
        ResponseReader().feed(b"220 mail.example.com ESMTP\r\n")


@pytest.mark.parametrize(
    ("url", "authority", "target"),
    [
        ("http://127.0.0.1:8000", "127.0.0.1:8000", "/v1/topics"),
        ("http://127.0.0.1", "127.0.0.1", "/v1/topics"),
        ("https://Example.com:443/", "example.com", "/v1/topics"),
        ("https://bücher.example/queue/", "xn--bcher-kva.example", "/queue/v1/topics"),
        ("http://[::1]:80", "[::1]", "/v1/topics"),
        ("http://[::1]:8080/a/b", "[::1]:8080", "/a/b/v1/topics"),
    ],
)
def test_requests_name_host_and_path(url: str, authority: str, target: str) -> None:
    requests = Requests(Address.parse(url), token="secret", agent="me", compress=True)
    head, _, body = requests.write("POST", "/v1/topics", b"{}").partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == f"POST {target} HTTP/1.1"
    assert lines[1:] == [
        f"host: {authority}",
        "user-agent: me",
        "authorization: Bearer secret",
        "accept-encoding: gzip",
        "content-type: application/json",
        "content-length: 2",
    ]
    assert body == b"{}"
    assert requests.write("GET", "/livez", b"").endswith(b"accept-encoding: gzip\r\n\r\n")
    assert b"content-length: 0\r\n" in requests.write("PATCH", "/", b"")


def test_an_address_is_shown_as_it_is_reached() -> None:
    assert str(Address.parse("https://Example.com:443/queue/")) == "https://example.com/queue"
