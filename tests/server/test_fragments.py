"""However the bytes of a connection are cut up, and whatever they are, the answers are in order."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ratus.server import ConnectionLimits
from tests.server.support import Client, Running, echo, running

pytestmark = pytest.mark.usefixtures("both_ways")

REQUESTS = [
    b"GET /get?a=b HTTP/1.1\r\nhost: x\r\n\r\n",
    b"POST /post HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    b"PUT /put HTTP/1.1\r\nhost: a\r\n"
    b"transfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx: y\r\n\r\n",
    b"PATCH /up HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\ncontent-length: 5\r\n\r\nhello",
]


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with running(echo, limits=ConnectionLimits(linger_seconds=0.1)) as server:
        yield server


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=5),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_cuts_make_no_difference(server: Running, requests: list[bytes], cuts: list[int]) -> None:
    sent = b"".join(requests)
    edges = [0, *sorted(cut for cut in cuts if cut < len(sent)), len(sent)]
    with Client(server.port) as client:
        for start, end in pairwise(edges):
            client.send(sent[start:end])
        for request in requests:
            told = client.answer().json
            assert request.startswith(f"{told['method']} {told['path']}".encode())
            assert told["body"] == ("" if told["method"] == "GET" else "hello")


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_requests_are_answered_properly_or_not_at_all(server: Running, data: st.DataObject) -> None:
    sent = bytearray(b"".join(data.draw(st.lists(st.sampled_from(REQUESTS), min_size=1, max_size=3))))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(sent) - 1))
        sent[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with Client(server.port) as client:
        client.send(bytes(sent))
        client.half_close()
        received = client.rest()
    for status, headers, body in re.findall(
        rb"HTTP/1.1 (\d+) [^\r]*\r\n(.*?)\r\n\r\n(.*?)(?=HTTP/1.1 |\Z)", received, re.DOTALL
    ):
        assert status in (b"200", b"400", b"408", b"431")
        assert body.startswith(b"{"), received
        assert status == b"200" or b"connection: close" in headers
    assert re.match(rb"HTTP/1.1 \d+ |\Z", received)
