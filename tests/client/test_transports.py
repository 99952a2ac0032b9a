"""Clients over a transport that the program gives them."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from ratus import AsyncClient, Client, HTTPRequest, HTTPResponse, Task, TransportError, Unauthorized
from ratus.testing import RatusServer
from tests.client.support import BOTH, InBackground, connect

CREATED = HTTPResponse(201, body=b'{"created":1,"updated":0}')
GONE = HTTPResponse(404, body=b'{"error":{"code":404,"message":"not found"}}')
AWAY = HTTPResponse(503, body=b'{"error":{"code":503,"message":"service unavailable: stopping"}}')


class Scripted:
    """Answers by a script of responses and errors, and keeps what was sent; for either client."""

    def __init__(self, script: Iterable[HTTPResponse | BaseException]) -> None:
        self._script = iter(script)
        self.requests: list[HTTPRequest] = []
        self.closed = 0

    def send(self, request: HTTPRequest) -> Any:
        self.requests.append(request)
        found = next(self._script)
        if isinstance(found, BaseException):
            raise found
        return found

    def close(self) -> Any:
        self.closed += 1


class AsyncScripted(Scripted):
    async def send(self, request: HTTPRequest) -> HTTPResponse:
        response: HTTPResponse = super().send(request)
        return response

    async def close(self) -> None:
        super().close()


def scripted(kind: str, *script: HTTPResponse | BaseException) -> Scripted:
    return Scripted(script) if kind == "sync" else AsyncScripted(script)


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


URL = "http://queue.example:8080/ratus"


def test_a_transport_is_given_whole_requests(kind: str) -> None:
    transport = scripted(kind, CREATED, GONE)
    with connect(kind, URL, transport=transport, token="secret", request_timeout="7s") as client:
        assert client.insert_task(Task(id="a/b", topic="mail", payload=1)).created == 1
        assert client.poll("mail", wait="3s") is None
        assert transport.closed == 0
    insert, poll = transport.requests
    assert (insert.method, insert.target) == ("POST", "/ratus/v1/topics/mail/tasks/a%2Fb")
    assert insert.url == f"http://queue.example:8080{insert.target}"
    assert insert.headers["authorization"] == "Bearer secret"
    assert insert.headers["content-type"] == "application/json"
    assert "host" not in insert.headers
    assert b'"payload":1' in insert.body
    assert (insert.timeout, poll.timeout) == (7.0, 10.0)
    assert transport.closed == 1


def test_a_request_without_a_body_has_no_type(kind: str) -> None:
    transport = scripted(kind, HTTPResponse(200, body=b'{"data":[]}'))
    with connect(kind, URL, transport=transport) as client:
        assert client.list_topics() == []
    (request,) = transport.requests
    assert request.body == b""
    assert not {"content-type", "authorization"} & set(request.headers)


@pytest.mark.parametrize(
    "trouble", [AWAY, TransportError("cut"), TransportError("refused", sent=False), OSError("reset")]
)
def test_the_client_repeats(kind: str, trouble: Any) -> None:
    transport = scripted(kind, trouble, CREATED)
    with connect(kind, URL, transport=transport) as client:
        client.insert_task(Task(id="1", topic="t"))
    assert len(transport.requests) == 2


def test_what_may_have_been_carried_out_is_repeated_only_where_that_is_safe(kind: str) -> None:
    transport = scripted(kind, OSError("reset"))
    with (
        connect(kind, URL, transport=transport) as client,
        pytest.raises(TransportError, match="the transport failed: reset") as caught,
    ):
        client.delete_tasks("t")
    assert caught.value.sent


def test_a_refusal_is_the_error_that_it_stands_for(kind: str) -> None:
    body = b'{"error":{"code":401,"message":"unauthorized"}}'
    transport = scripted(
        kind, HTTPResponse(401, body=body), HTTPResponse(302, {"Location": "http://elsewhere"})
    )
    with connect(kind, URL, transport=transport, retries=0) as client:
        with pytest.raises(Unauthorized):
            client.get_topic("t")
        with pytest.raises(TransportError, match="http://elsewhere"):
            client.delete_topic("t")


def test_a_defect_of_a_transport_is_raised_as_it_is(kind: str) -> None:
    transport = scripted(kind, ZeroDivisionError("mine"))
    with connect(kind, URL, transport=transport) as client, pytest.raises(ZeroDivisionError, match="mine"):
        client.list_topics()


def test_a_closed_client_sends_nothing(kind: str) -> None:
    transport = scripted(kind)
    with connect(kind, URL, transport=transport) as client:
        client.close()
        with pytest.raises(TransportError, match="the client is closed"):
            client.list_topics()
    assert transport.requests == []
    assert transport.closed == 1


def test_an_asynchronous_transport_that_hangs_is_cancelled() -> None:
    class Hanging(AsyncScripted):
        async def send(self, request: HTTPRequest) -> HTTPResponse:
            await asyncio.Event().wait()
            raise AssertionError

    async def use() -> None:
        async with AsyncClient(URL, transport=Hanging([]), request_timeout="10ms", retries=0) as client:
            with pytest.raises(TransportError, match=r"no whole answer from .* within 0\.01 s"):
                await client.list_topics()

    asyncio.run(use())


class WithoutClose:
    def send(self, request: HTTPRequest) -> HTTPResponse:
        return CREATED


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Client(transport="http"), r"methods send\(request\) and close\(\); a str has no send"),  # type: ignore[arg-type]
        (lambda: Client(transport=WithoutClose()), "a WithoutClose has no close"),  # type: ignore[arg-type]
        (lambda: Client(transport=Scripted), "give an object, not the class Scripted"),  # type: ignore[arg-type]
        (lambda: Client(transport=AsyncScripted([])), "give it to an AsyncClient"),  # type: ignore[arg-type]
        (lambda: AsyncClient(transport=object()), "an? AsyncTransport has the methods"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_transport_is_refused(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(TypeError, match=text):
        make()


def test_a_synchronous_transport_of_an_asynchronous_client_is_a_clear_error() -> None:
    async def use() -> None:
        client = AsyncClient(transport=Scripted([CREATED]))
        with pytest.raises(TypeError, match=r"coroutine function \(async def\); this one returned"):
            await client.list_topics()

    asyncio.run(use())


def test_what_is_no_response_is_a_clear_error(kind: str) -> None:
    transport = scripted(kind, b"200")  # type: ignore[arg-type]
    with (
        connect(kind, URL, transport=transport) as client,
        pytest.raises(TypeError, match="send must return an HTTPResponse, not a bytes"),
    ):
        client.list_topics()


@pytest.mark.parametrize("options", [{"compress": True}, {"tls": ssl.create_default_context()}])
def test_settings_of_the_clients_own_connections_are_refused(kind: str, options: dict[str, Any]) -> None:
    name = next(iter(options))
    with pytest.raises(ValueError, match=f"{name}: where a transport is given"):
        connect(kind, "https://queue.example", transport=scripted(kind), **options)


# ---- working -----------------------------------------------------------------------------------------


class Through:
    """Sends over a client of another kind of connection: to a real server."""

    def __init__(self, url: str) -> None:
        import httpx

        self._client = httpx.Client(base_url=url)
        self.waits: list[bytes] = []

    def send(self, request: HTTPRequest) -> HTTPResponse:
        if request.target.endswith("/promises"):
            self.waits.append(request.body)
        found = self._client.request(
            request.method,
            request.target,
            headers=dict(request.headers),
            content=request.body,
            timeout=request.timeout,
        )
        return HTTPResponse(found.status_code, found.headers, found.content)

    def close(self) -> None:
        self._client.close()


class AsyncThrough(Through):
    async def send(self, request: HTTPRequest) -> HTTPResponse:  # type: ignore[override]
        return await asyncio.to_thread(super().send, request)

    async def close(self) -> None:  # type: ignore[override]
        super().close()


def test_a_worker_over_a_transport_works_and_loses_no_task_when_it_stops(kind: str) -> None:
    with RatusServer(real_clock=True) as server, server.client() as observer:
        observer.insert_task(Task(id="1", topic="t"))
        transport = Through(server.url) if kind == "sync" else AsyncThrough(server.url)
        done = threading.Event()
        with connect(kind, server.url, transport=transport) as client:
            running = InBackground(lambda: client.subscribe("t", lambda delivery: done.set(), wait="20s"))
            assert done.wait(30)
            client.stop()
            running.join()
        observer.insert_task(Task(id="2", topic="t"))
        assert observer.get_task("1").state.name == "COMPLETED"
        assert observer.get_task("2").state.name == "PENDING"
    assert transport.waits
    assert all(b'"wait":"1s"' in body for body in transport.waits)
