"""Each request runs in a context of its own, also on a connection that is kept, and in the eager part."""

from __future__ import annotations

import asyncio
from contextvars import ContextVar

import pytest
from starlette.types import Receive, Scope, Send

from tests.server.support import Client, answer, running

pytestmark = pytest.mark.usefixtures("both_ways")

REQUEST = b"GET /%d HTTP/1.1\r\nhost: a\r\n\r\n"

trace: ContextVar[str] = ContextVar("trace", default="none")


async def at_once(scope: Scope, receive: Receive, send: Send) -> None:
    found = trace.get()
    trace.set(scope["path"])
    await answer(send, f"{found} {trace.get()}".encode())


async def with_pauses(scope: Scope, receive: Receive, send: Send) -> None:
    found = trace.get()
    trace.set(scope["path"])
    await asyncio.sleep(0)
    await receive()
    await asyncio.sleep(0)
    await answer(send, f"{found} {trace.get()}".encode())


async def after_the_answer(scope: Scope, receive: Receive, send: Send) -> None:
    found = trace.get()
    await answer(send, f"{found} {scope['path']}".encode())
    trace.set(scope["path"])


@pytest.mark.parametrize("app", [at_once, with_pauses, after_the_answer])
def test_a_request_does_not_see_what_the_one_before_it_set(app: object) -> None:
    with running(app) as server, Client(server.port) as client:  # type: ignore[arg-type]  # an application
        for number in range(3):
            client.send(REQUEST % number)
            assert client.answer().body == b"none /%d" % number
        # Pipelined ones are begun by the end of the one before.
        client.send(b"".join(REQUEST % number for number in range(5)))
        for number in range(5):
            assert client.answer().body == b"none /%d" % number


def test_tasks_and_callbacks_of_a_request_have_its_context() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        trace.set(scope["path"])
        loop = asyncio.get_running_loop()
        called = loop.create_future()
        loop.call_soon(lambda: called.set_result(trace.get()))

        async def in_background() -> str:
            await asyncio.sleep(0)
            try:
                return trace.get()
            finally:
                trace.set("the task's own")

        found = [await asyncio.create_task(in_background()), await called, trace.get()]
        found.append(await asyncio.to_thread(trace.get))
        await answer(send, " ".join(found).encode())

    with running(app) as server, Client(server.port) as client:
        for number in range(2):
            client.send(REQUEST % number)
            assert client.answer().body == b" ".join([b"/%d" % number] * 4)
