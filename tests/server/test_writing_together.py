"""Answers of one turn of the loop are written together; one that comes alone is not kept waiting."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from starlette.types import Receive, Scope, Send

from ratus.server.protocol import HTTPProtocol
from ratus.server.state import UNBATCHED
from tests.server.support import Client, Running, answer, read_body, running

pytestmark = pytest.mark.usefixtures("both_ways")


class Pairs:
    """Answers requests for ``/pair`` two by two, in the same turn of the loop, and others at once."""

    def __init__(self) -> None:
        self.waiting: list[asyncio.Future[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await read_body(receive)
        if scope["path"] == "/pair":
            self.waiting.append(asyncio.get_running_loop().create_future())
            mine = self.waiting[-1]
            if len(self.waiting) == 2:
                for each in self.waiting:
                    each.set_result(None)
                self.waiting.clear()
            await mine
            # A second pause, since only the first of the pair had waited for the future.
            await asyncio.sleep(0)
        await answer(send, scope["path"].encode())


@contextmanager
def counting(server: Running) -> Iterator[list[object]]:
    """The connections whose answers are held until the end of their turn, as they come."""
    held: list[object] = []
    flush_soon = server.state.flush_soon

    def note(connection: HTTPProtocol) -> None:
        held.append(connection)
        flush_soon(connection)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server.state, "flush_soon", note)
        yield held


def test_answers_that_come_alone_are_written_at_once_but_for_one_in_between() -> None:
    with running(Pairs()) as server, Client(server.port) as client, counting(server) as held:
        counts = []
        for number in range(2 * (UNBATCHED + 1)):
            assert client.get(b"/%d" % number).body == b"/%d" % number
            counts.append(len(held))
    assert counts == [1] * (UNBATCHED + 1) + [2] * (UNBATCHED + 1)


def test_answers_of_one_turn_are_all_held() -> None:
    with (
        running(Pairs()) as server,
        Client(server.port) as client,
        Client(server.port) as other,
        counting(server) as held,
    ):
        for number in range(1, 10):
            for each in (client, other):
                each.send(b"GET /pair HTTP/1.1\r\nhost: a\r\n\r\n")
            assert [each.answer().body for each in (client, other)] == [b"/pair"] * 2
            assert len(held) == 2 * number
