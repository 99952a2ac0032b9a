"""Bounds of size and time, hostile clients, and connections that die in the middle."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.api.waiters import settle
from tests.servers import Api, Client, Server, assert_error, request_bytes, serving

BODY = 64 * 1024
BATCH = 20


@pytest.fixture(scope="module")
def tight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with small limits."""
    flags = ["--max-body-size", "64KiB", "--max-batch-size", str(BATCH)]
    with serving(tmp_path_factory.mktemp("tight"), *flags) as server:
        yield server


@pytest.fixture
def client(tight: Server) -> Iterator[Api]:
    with Api(tight.port) as api:
        yield api


def body_of(size: int) -> bytes:
    return b'{"payload":"' + b"x" * (size - 14) + b'"}'


# ---- bodies --------------------------------------------------------------------------------------

ROUTES_WITH_BODY = [
    ("POST", "/v1/topics/{0}/tasks/{0}"),
    ("PUT", "/v1/topics/{0}/tasks/{0}"),
    ("PATCH", "/v1/topics/{0}/tasks/{0}"),
    ("POST", "/v1/topics/{0}/tasks"),
    ("PUT", "/v1/topics/{0}/tasks"),
    ("PATCH", "/v1/topics/{0}/tasks"),
    ("POST", "/v1/topics/{0}/promises"),
    ("POST", "/v1/topics/{0}/promises/{0}"),
    ("PUT", "/v1/topics/{0}/promises/{0}"),
    ("PATCH", "/v1/topics/{0}/promises/{0}"),
    ("PATCH", "/v1/topics/{0}"),
    ("POST", "/v1/promises"),
]


@pytest.mark.parametrize(("method", "target"), ROUTES_WITH_BODY)
def test_bodies_over_the_limit_are_413(client: Api, name: str, method: str, target: str) -> None:
    assert client.request(method, target.format(name), body_of(BODY)).status != 413
    client.delete(f"/v1/topics/{name}")
    assert_error(client.request(method, target.format(name), body_of(BODY + 1)), 413, str(BODY))
    assert client.get(f"/v1/topics/{name}/tasks").json == {"data": []}


def test_the_announcement_is_enough(tight: Server, name: str) -> None:
    """A terabyte is refused before a byte of it is sent."""
    with Client(tight.port) as client:
        target = f"/v1/topics/{name}/tasks/{name}"
        client.send(f"POST {target} HTTP/1.1\r\nhost: x\r\ncontent-length: {10**12}\r\n\r\n".encode())
        assert_error(client.answer(), 413)
        client.assert_closed()


def test_nobody_is_asked_to_continue_with_too_much(tight: Server, name: str) -> None:
    with Client(tight.port) as client:
        target = f"/v1/topics/{name}/tasks/{name}"
        head = f"POST {target} HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\n"
        client.send(f"{head}content-length: {BODY + 1}\r\n\r\n".encode())
        assert_error(client.answer(), 413)


@pytest.mark.parametrize("part", [1, 1000, 60_000])
def test_chunks_are_counted(tight: Server, name: str, part: int) -> None:
    target = f"/v1/topics/{name}/tasks/{name}"
    head = f"POST {target} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n".encode()
    for size, status in ((BODY, 201), (BODY + 1, 413)):
        body = body_of(size)
        chunks = b"".join(
            b"%x\r\n%b\r\n" % (len(body[at : at + part]), body[at : at + part]) for at in range(0, size, part)
        )
        with Client(tight.port) as client:
            client.send(head + chunks + b"0\r\n\r\n")
            answer = client.answer()
            assert answer.status == status
    with Api(tight.port) as api:
        assert len(api.task(name)["payload"]) == BODY - 14


def test_a_gigabyte_leaves_the_server_small(server: Server, name: str) -> None:
    """Offered with and without a word about its size, by a client that never stops to listen."""
    part = b"x" * (256 * 1024)
    before = server.memory()
    target = f"/v1/topics/{name}/tasks/{name}"
    for framing in (f"content-length: {2**30}", "transfer-encoding: chunked"):
        with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
            sock.sendall(f"POST {target} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode())
            sent = 0
            try:
                while sent < 2**30:
                    data = part if "length" in framing else b"%x\r\n%b\r\n" % (len(part), part)
                    sock.sendall(data)
                    sent += len(part)
            except OSError:
                pass  # it was cut off
            assert sent < 2**26, "a gigabyte was read to its end"
            try:
                answer = sock.recv(65536)
            except ConnectionError:
                answer = b""
            assert answer == b"" or answer.startswith(b"HTTP/1.1 413 ")
        assert server.memory() - before < 40 * 2**20
    with Api(server.port) as api:
        assert_error(api.get(target), 404)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"payload":[', b'{"data":['])
def test_a_hundred_thousand_levels(server: Server, name: str, opening: bytes) -> None:
    with Api(server.port) as api:
        target = f"/v1/topics/{name}/tasks/{name}"
        for body in (
            opening * 100_000,
            b'{"payload": ' + opening * 100_000,
            b'{"retry": ' + opening * 100_000,
        ):
            assert_error(api.put(target, body), 400)
        assert_error(api.get(target), 404)
        assert api.get("/livez").status == 200


# ---- batches -------------------------------------------------------------------------------------


def test_batches_over_the_limit_are_413(client: Api, name: str) -> None:
    data = [{"_id": f"{name}{number}"} for number in range(BATCH + 1)]
    target = f"/v1/topics/{name}/tasks"
    for method in ("POST", "PUT", "PATCH"):
        assert_error(client.request(method, target, {"data": data}), 413, str(BATCH))
    assert client.get(target).json == {"data": []}
    assert client.post(target, {"data": data[:BATCH]}).json == {"created": BATCH, "updated": 0}
    assert len(client.patch(target, {"data": data[:BATCH]}).json["data"]) == BATCH


def test_the_largest_batch(api: Api, name: str) -> None:
    data = [{"_id": f"{name}{number}"} for number in range(10_001)]
    target = f"/v1/topics/{name}/tasks"
    assert_error(api.post(target, {"data": data}), 413)
    assert api.post(target, {"data": data[:-1]}).json == {"created": 10_000, "updated": 0}
    assert api.delete(target).json == {"deleted": 10_000}


# ---- heads ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        b"".join(b"x%d: y\r\n" % number for number in range(101)),
        b"x: " + b"y" * 65_536 + b"\r\n",
        b"x" * 65_536 + b": y\r\n",
        b"".join(b"x%d: %b\r\n" % (number, b"y" * 1000) for number in range(70)),
    ],
)
def test_headers_over_the_limit_are_431(server: Server, fields: bytes) -> None:
    with Client(server.port) as client:
        client.send(b"GET /livez HTTP/1.1\r\nhost: x\r\n" + fields + b"\r\n")
        assert_error(client.answer(), 431)
        client.assert_closed()


def test_a_flood_of_headers_leaves_the_server_small(server: Server) -> None:
    before = server.memory()
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as sock:
        sent = 0
        try:
            sock.sendall(b"GET /livez HTTP/1.1\r\nhost: a\r\n")
            while sent < 2**27:
                sock.sendall(b"x: y\r\n" * 10_000)
                sent += 60_000
        except OSError:
            pass  # it was cut off
        assert sent < 2**27
    assert server.memory() - before < 20 * 2**20


@pytest.mark.parametrize(
    "sent",
    [
        b"\r\n\r\n\r\n",
        b"hello\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(100)) + b"\r\n\r\n",
        b"GET /livez HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n",
        b"POST /v1/topics/a/tasks/b HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
        b"POST /v1/topics/a/tasks/b HTTP/1.1\r\nhost: a\r\n"
        b"transfer-encoding: chunked\r\ncontent-length: 6\r\n\r\n",
        b"GET /v1/topics/\xff HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET nowhere HTTP/1.1\r\nhost: a\r\n\r\n",
        b"CONNECT a.example:443 HTTP/1.1\r\nhost: a\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_is_not_http_is_answered_or_closed(server: Server, sent: bytes) -> None:
    with Client(server.port) as client:
        client.send(sent)
        client.half_close()
        answer = client.rest()
        assert answer == b"" or answer.startswith(b"HTTP/1.1 400 ")
        if answer:
            assert json.loads(answer.partition(b"\r\n\r\n")[2])["error"]["code"] == 400


def test_slow_clients_are_told_and_closed_while_others_are_served(
    server: Server, api: Api, name: str
) -> None:
    """Ten real seconds: silent, dripping byte by byte, and half open, all at once."""
    silent, half_line = Client(server.port), Client(server.port)
    half_line.send(b"GET /livez HT")
    drips = [Client(server.port) for _ in range(3)]
    for client in drips:
        client.send(b"POST /v1/topics/t/tasks/x HTTP/1.1\r\nhost: a\r\n")
    started = time.monotonic()
    slow = [silent, half_line, *drips]
    for client in slow:
        client.sock.settimeout(0)
    waiting = set(slow)
    answers: list[bytes] = []
    while waiting:
        assert time.monotonic() - started < 60, "a slow client is kept"
        assert api.get("/livez").status == 200
        for client in sorted(waiting, key=slow.index):
            try:
                if client in drips:
                    client.send(b"x")
                if data := client.sock.recv(65536):
                    answers.append(data)
            except BlockingIOError:
                continue
            except ConnectionError:
                pass
            waiting.discard(client)
        time.sleep(0.05)
    assert time.monotonic() - started > 9
    assert all(answer.startswith(b"HTTP/1.1 408 ") for answer in answers)
    assert len(answers) >= 2
    for client in slow:
        client.sock.close()


# ---- connections that die in the middle ----------------------------------------------------------


def die(client: Client, how: str) -> None:
    if how == "reset":
        client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    if how == "half-close":
        client.half_close()
        assert client.rest() == b""
    client.sock.close()


@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("framing", ["length", "chunked"])
def test_half_a_body_is_not_applied(server: Server, api: Api, name: str, how: str, framing: str) -> None:
    """Cut anywhere, even where what has come is a whole JSON value."""
    api.insert(name, f"{name}-old", payload="kept")
    batch = json.dumps({"data": [{"_id": f"{name}-{number}"} for number in range(50)]}).encode()
    requests: list[tuple[str, str, bytes]] = [
        ("POST", f"/v1/topics/{name}/tasks", batch),
        ("PUT", f"/v1/topics/{name}/tasks", batch),
        ("POST", f"/v1/topics/{name}/tasks/{name}-single", b'{"payload": 1}'),
        ("PUT", f"/v1/topics/{name}/tasks/{name}-old", b"{}"),
        ("PATCH", f"/v1/topics/{name}/tasks/{name}-old", b"{}"),
        ("POST", f"/v1/topics/{name}/promises", b"{}"),
    ]
    before = api.task(f"{name}-old")
    for method, target, body in requests:
        for cut in {0, 1, len(body) // 2, len(body)}:
            client = Client(server.port)
            if framing == "length":
                # One byte more is announced than ever comes.
                head = request_bytes(method, target, None, {"content-length": str(len(body) + 1)})
                client.send(head + body[:cut])
            else:
                head = request_bytes(method, target, None, {"transfer-encoding": "chunked"})
                client.send(head + (b"%x\r\n%b\r\n" % (cut, body[:cut]) if cut else b""))
            die(client, how)
    settle(server.port)
    assert api.task(f"{name}-old") == before
    assert api.get(f"/v1/topics/{name}").json["count"] == 1


def test_a_batch_that_is_refused_at_its_end_is_not_applied(api: Api, name: str) -> None:
    data: list[Any] = [{"_id": f"{name}-{number}"} for number in range(1000)]
    for bad in (
        {"_id": f"{name}-bad", "state": 9},
        {"_id": ""},
        None,
        1,
        {"_id": "x", "payload": [[]] * 2, "ttl": "-1s"},
    ):
        for method in ("POST", "PUT"):
            assert_error(api.request(method, f"/v1/topics/{name}/tasks", {"data": [*data, bad]}), 400)
    assert api.get(f"/v1/topics/{name}/tasks").json == {"data": []}


def test_an_error_in_a_batch_says_where(api: Api, name: str) -> None:
    data = [{"_id": f"{name}1"}, {"_id": f"{name}2"}, {"_id": f"{name}3", "state": "x"}]
    assert_error(api.post(f"/v1/topics/{name}/tasks", {"data": data}), 400, "data: item 2: state")


def test_open_connections_cost_little(server: Server) -> None:
    before = server.memory()
    count = min(500, os.sysconf("SC_OPEN_MAX") // 2)
    clients = [Client(server.port) for _ in range(count)]
    settle(server.port)
    assert server.memory() - before < count * 40_000
    for client in clients:
        client.sock.close()


def test_paths_lead_to_no_files(api: Api) -> None:
    for target in (
        "/assets/../../../../etc/passwd",
        "/..%2f..%2fetc/passwd",
        "/assets/%2e%2e/%2e%2e/pyproject.toml",
    ):
        assert_error(api.get(target), 404)
