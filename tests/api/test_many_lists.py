"""Many large lists at once: they are made in turn, and none is made while too many are not read."""

from __future__ import annotations

import asyncio
import gzip
from typing import Any

import pytest

from ratus.api.call import Call, Response, Unwatched
from ratus.api.dispatch import _LARGE, _in_turn
from ratus.api.query import NO_QUERY
from ratus.core.errors import Overloaded

pytestmark = pytest.mark.anyio

BODY = b"a" * _LARGE


class Crowded(Unwatched):
    """A connection beside others that leave too much unread."""

    def check_answers(self) -> None:
        raise Overloaded("too much")


def call(connection: Any = None, **headers: bytes) -> Call:
    """A request for a list."""
    return Call(
        topic="t",
        task_id="",
        name="",
        query=NO_QUERY,
        body=b"",
        now=0,
        headers={name.replace("_", "-").encode(): value for name, value in headers.items()},
        connection=connection or Unwatched(),
    )


@pytest.mark.parametrize("headers", [{}, {"accept_encoding": b"gzip"}])
@pytest.mark.parametrize("at_once", [1, 3])
async def test_others_are_served_between_large_ones(headers: dict[str, bytes], at_once: int) -> None:
    turn = 0
    made: list[int] = []

    async def make(call: Call) -> Response:
        made.append(turn)
        return Response(200, BODY)

    handler = _in_turn(make, asyncio.Semaphore(at_once))
    lists = [asyncio.ensure_future(handler(call(**headers))) for _ in range(20)]
    while not all(each.done() for each in lists):
        turn += 1
        await asyncio.sleep(0)
    assert len(made) == 20
    assert max(made.count(each) for each in made) <= at_once


async def test_few_are_made_or_packed_at_a_time() -> None:
    running = most = 0

    async def make(call: Call) -> Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return Response(200, BODY)

    handler = _in_turn(make, asyncio.Semaphore(2))
    answers = await asyncio.gather(*(handler(call(accept_encoding=b"gzip")) for _ in range(20)))
    assert most == 2
    assert all(gzip.decompress(each.body) == BODY and each.compressed for each in answers)
    assert all((b"vary", b"Accept-Encoding") in each.headers for each in answers)


async def test_a_small_one_waits_for_no_turn() -> None:
    async def make(call: Call) -> Response:
        return Response(200, b"[]")

    with pytest.raises(StopIteration) as done:
        _in_turn(make, asyncio.Semaphore(1))(call()).send(None)  # type: ignore[attr-defined]  # a coroutine
    assert done.value.value.body == b"[]"


async def test_none_is_made_while_too_much_is_not_read() -> None:
    async def make(call: Call) -> Response:
        raise AssertionError("it is not made")

    with pytest.raises(Overloaded):
        await _in_turn(make, asyncio.Semaphore(1))(call(Crowded()))
