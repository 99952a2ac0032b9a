"""Raw UTF-8 in a target, wherever reads end and whatever is before it, is served as if it were encoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import cast
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from ratus.server.protocol import PIECE, HTTPProtocol
from tests.server.support import Answer, Client, Running, echo, eventually, running

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo) as server:
        yield server


def receive(server: Running, sent: bytes, cuts: list[int]) -> Client:
    """A connection that has read ``sent``, with reads that ended exactly at these positions."""
    eventually(lambda: not server.state.connections)
    client = Client(server.port)
    eventually(lambda: len(server.state.connections) == 1)
    connection = cast(HTTPProtocol, next(iter(server.state.connections)))
    for start, end in pairwise([0, *sorted({cut for cut in cuts if cut < len(sent)} - {0}), len(sent)]):
        server.loop.call_soon_threadsafe(connection.data_received, sent[start:end])
    return client


def told(answer: Answer) -> tuple[int, object]:
    return answer.status, answer.json


@dataclass(frozen=True)
class Request:
    """A request, its target in raw UTF-8."""

    method: str
    target: str
    fields: bytes
    body: bytes
    framing: str

    def encoded(self) -> bytes:
        return self._with(quote(self.target, safe=bytes(range(128))).encode())

    def raw(self) -> bytes:
        return self._with(self.target.encode())

    def _with(self, target: bytes) -> bytes:
        head = b"%b %b HTTP/1.1\r\nhost: a\r\n%b" % (self.method.encode(), target, self.fields)
        if self.framing == "none":
            return head + b"\r\n"
        if self.framing == "chunked":
            half = len(self.body) // 2
            chunks = (
                b"%x\r\n%b\r\n" % (len(part), part) for part in (self.body[:half], self.body[half:]) if part
            )
            return head + b"transfer-encoding: chunked\r\n\r\n%b0\r\nx: \xe9\r\n\r\n" % b"".join(chunks)
        upgrade = b"connection: upgrade\r\nupgrade: h2c\r\n" if self.framing == "upgrade" else b""
        return head + upgrade + b"content-length: %d\r\n\r\n%b" % (len(self.body), self.body)


# What could be taken for a request, or for the end of one.
LOOK_ALIKES = [
    "GET /é HTTP/1.1\r\nhost: a\r\n\r\n".encode(),
    "GET http://a/é".encode(),
    b"POST /",
    b"GET",
    b" ",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"0\r\n\r\n",
    "é".encode(),
    b"\xc3",
    b"\xff",
    b"{}",
]

targets = st.builds(
    "{}{}{}".format,
    st.sampled_from(["/", "/", "/", "http://a/", "HTTP://é/"]),
    st.lists(st.sampled_from(["é", "任务", "🐀", "a", "/", "//", "%C3%A9", "%FF", "%", "~", ";"])).map(
        "".join
    ),
    st.sampled_from(["", "", "?", "?q=ü&ß=%FF", "?a?é", "#é"]),
)
fields = st.sampled_from(
    [b"", b"", b"x: \xe9\r\n", "x: GET /é HTTP/1.1\r\n".encode(), "x: é\r\ny: POST /é\r\n".encode()]
)
bodies = st.lists(st.sampled_from(LOOK_ALIKES), max_size=8).map(b"".join)
requests = st.builds(
    Request,
    st.sampled_from(["GET", "POST", "PUT", "DELETE", "M-SEARCH"]),
    targets,
    fields,
    bodies,
    st.sampled_from(["none", "chunked", "length", "upgrade"]),
)
between = st.sampled_from([b"", b"", b"\r\n", b"\r\n\r\n"])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(requests, min_size=1, max_size=5), between, st.lists(st.integers(0, 600), max_size=12))
@example(
    [Request("POST", "/é", b"", b"{}" * PIECE, framing) for framing in ("chunked", "length", "upgrade")] * 2,
    b"",
    [],
)
@example([Request("GET", "/" + "é" * 5000, b"", b"", "none")] * 3, b"", [PIECE, 11_007])
def test_pipelines_are_answered_as_encoded_requests_are(
    server: Running, requests: list[Request], between: bytes, cuts: list[int]
) -> None:
    with receive(server, between.join(request.raw() for request in requests), cuts) as client:
        answers = [told(client.answer()) for _ in requests]
        client.half_close()
        client.assert_closed()
    with Client(server.port) as client:
        for request, answer in zip(requests, answers, strict=True):
            client.send(request.encoded())
            assert told(client.answer()) == answer
    for request, (status, seen) in zip(requests, answers, strict=True):
        assert status == 200
        assert isinstance(seen, dict)
        if request.framing != "none" and len(request.body) <= 1000:
            assert seen["body"].encode("latin-1") == request.body


EVERYTHING = [
    Request("GET", "/é", b"x: \xe9\r\n", b"", "none"),
    Request("POST", "/🐀?ü", b"", "GET /é HTTP/1.1\r\n\r\n".encode(), "length"),
    Request("PUT", "/b", b"", "POST /ü HTTP/1.1\r\n\r\n".encode(), "chunked"),
    Request("POST", "/任", "x: GET /é\r\n".encode(), b"GET /\xff", "upgrade"),
    Request("GET", "http://a/é", b"", b"", "none"),
]
SENT = b"".join(request.raw() for request in EVERYTHING)


def test_every_cut_and_all_of_them(server: Running) -> None:
    expected = None
    for cuts in ([], list(range(len(SENT))), *([cut] for cut in range(1, len(SENT)))):
        with receive(server, SENT, cuts) as client:
            answers = [told(client.answer()) for _ in EVERYTHING]
        expected = expected or answers
        assert answers == expected
    assert expected is not None
    assert [seen["path"] for _, seen in expected] == ["/é", "/🐀", "/b", "/任", "/é"]  # type: ignore[index]  # an object


INVALID = {
    "no UTF-8": b"/\xff",
    "a lone beginning": b"/\xc3",
    "a beginning before ASCII": b"/\xc3a",
    "a beginning before an escape": b"/\xc3%A9",
    "a surrogate": b"/\xed\xa0\x80",
    "an overlong sequence": b"/\xc0\xaf",
    "beyond Unicode": b"/\xf4\x90\x80\x80",
    "in the query": b"/?\xc3\xa9&\xa9",
    "in the host": b"http://\xe9/",
    "at the beginning": b"\xc3\xa9",
}


@pytest.mark.parametrize("target", INVALID.values(), ids=INVALID)
def test_what_is_not_utf_8_is_refused_in_its_turn(server: Running, target: bytes) -> None:
    good = EVERYTHING[1].raw()
    sent = good + b"GET %b HTTP/1.1\r\nhost: a\r\n\r\n" % target
    start = len(good)
    for cuts in ([], list(range(len(sent))), *([cut] for cut in range(start, start + len(target) + 8))):
        with receive(server, sent, cuts) as client:
            assert client.answer().json["path"] == "/🐀"
            client.answer().assert_error(400, "bad request: malformed HTTP: ")
            client.assert_closed()


@pytest.mark.parametrize("line", ["GÉT / HTTP/1.1", "GET / HTTP/é", "é", "GET / HTTP/1.1\r\né: a"])
@pytest.mark.parametrize("before", [b"", EVERYTHING[0].raw()])
def test_elsewhere_than_in_the_target_it_is_refused(server: Running, line: str, before: bytes) -> None:
    sent = before + f"{line}\r\nhost: a\r\n\r\n".encode()
    for cuts in ([], list(range(len(sent)))):
        with receive(server, sent, cuts) as client:
            if before:
                assert client.answer().status == 200
            client.answer().assert_error(400, "bad request: malformed HTTP: ")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=40), bodies, st.sampled_from(["length", "chunked"]), st.lists(st.integers(0, 400)))
def test_a_body_is_never_taken_for_a_request(
    server: Running, noise: bytes, body: bytes, framing: str, cuts: list[int]
) -> None:
    smuggled = b"DELETE /smuggled/\xc3\xa9 HTTP/1.1\r\nhost: a\r\n\r\n"
    request = Request("POST", "/é", b"", noise + smuggled + body + smuggled, framing)
    with receive(server, request.raw() * 2, cuts) as client:
        for _ in range(2):
            seen = client.answer().json
            assert (seen["path"], seen["body"].encode("latin-1")) == ("/é", request.body)
        client.half_close()
        client.assert_closed()
