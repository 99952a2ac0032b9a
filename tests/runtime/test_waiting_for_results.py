"""Requests that wait for a task to be done."""

from __future__ import annotations

import asyncio
import copy

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import SECOND
from ratus.core.errors import NotFound
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    PENDING,
    CommitRecord,
    RetryPolicy,
    TaskRecord,
)
from ratus.core.selection import Selection
from ratus.engine import Traits
from tests.runtime.hall import Hall, Peer, Slow

pytestmark = pytest.mark.anyio


@pytest.fixture
async def hall() -> Hall:
    return await Hall(MemdbEngine(random=lambda: 0.5)).open()


@pytest.mark.parametrize("state", [COMPLETED, ARCHIVED])
async def test_a_task_that_is_done_is_told_at_once(hall: Hall, state: int) -> None:
    await hall.insert("1")
    first, second = hall.wait_settled("1"), hall.wait_settled("1")
    await hall.settle()
    assert not first.done()
    await hall.engine.commit([CommitRecord("1", state=state)], hall.clock.now())
    await hall.settle()
    assert (first.result(), second.result()) == (state, state)
    assert await hall.wait_settled("1") == state
    await hall.assert_empty()


async def test_a_task_that_is_deleted_is_told_at_once(hall: Hall) -> None:
    await hall.insert("1")
    got = hall.wait_settled("1")
    await hall.settle()
    await hall.engine.delete_task("1")
    await hall.settle()
    assert got.result() is None
    assert await hall.wait_settled("1") is None
    await hall.assert_empty()


async def test_a_task_that_is_tried_again_is_not_done(hall: Hall) -> None:
    await hall.insert("1", retry=RetryPolicy(max_attempts=2, delay=SECOND))
    got = hall.wait_settled("1")
    for number in range(2):
        assert not got.done()
        claimed = await hall.claim()
        await hall.engine.commit([CommitRecord("1", claimed.nonce, error="boom")], hall.clock.now())
        await hall.settle()
        assert got.done() is (number == 1)
        await hall.advance(SECOND)
    assert got.result() == ARCHIVED
    await hall.assert_empty()


async def test_a_task_that_is_not_done_in_time_is_told_as_it_is(hall: Hall) -> None:
    await hall.insert("1")
    got = hall.wait_settled("1", wait=2 * SECOND)
    await hall.settle()
    await hall.claim()
    await hall.advance(2 * SECOND - 1)
    assert not got.done()
    await hall.advance(1)
    assert got.result() == ACTIVE
    await hall.assert_empty()


async def test_a_peer_that_waits_for_a_task_may_go(hall: Hall) -> None:
    await hall.insert("1")
    peer = Peer()
    got = hall.wait_settled("1", peer=peer)
    await hall.settle()
    peer.go()
    await hall.settle()
    assert got.result() == PENDING
    assert peer.callback is None
    cancelled = hall.wait_settled("1")
    await hall.settle()
    cancelled.cancel()
    await hall.assert_empty()


async def test_a_task_done_while_it_is_looked_at_is_noticed() -> None:
    for seed in range(20):
        hall = await Hall(Slow(seed)).open()
        await hall.insert("1")
        got = hall.wait_settled("1")
        for _ in range(seed % 8):
            await asyncio.sleep(0)
        await hall.engine.commit([CommitRecord("1")], hall.clock.now())
        await hall.settle()
        assert got.result() == COMPLETED
        await hall.assert_empty()


async def test_an_unknown_task_is_not_waited_for(hall: Hall) -> None:
    assert await hall.wait_settled("1") is None
    with pytest.raises(NotFound):
        await hall.engine.claim_task("1", Selection((), 0), 0, force=True)
    await hall.assert_empty()


class Following(MemdbEngine):
    """Shares its data with other servers, whose changes it hears of, or not, as a test says."""

    traits = Traits(name="following", durable=True, shared=True)
    following = True
    reads = 0

    def follows(self) -> bool:
        return self.following

    async def get(self, task_id: str) -> TaskRecord | None:
        self.reads += 1
        return await super().get(task_id)


async def test_where_other_servers_are_heard_of_a_result_is_not_polled_for() -> None:
    engine = Following()
    hall = await Hall(engine).open()
    await hall.insert("1")
    got = hall.wait_settled("1", wait=60 * SECOND)
    await hall.advance(30 * SECOND)
    assert engine.reads == 1
    await engine.commit([CommitRecord("1")], hall.clock.now())  # the listener is notified
    await hall.settle()
    assert (got.result(), engine.reads) == (COMPLETED, 2)
    await hall.assert_empty()


@pytest.mark.parametrize("following", [False, True])
async def test_what_may_have_been_missed_is_looked_at(following: bool) -> None:
    """The stream of changes broke, or is followed again after it broke."""
    engine = Following()
    hall = await Hall(engine).open()
    await hall.insert("1")
    got = hall.wait_settled("1", wait=60 * SECOND)
    await hall.settle()
    engine.listener = None  # as if another server did it
    await engine.commit([CommitRecord("1")], hall.clock.now())
    engine.following = following
    hall.long_polls.missed()
    await hall.settle()
    assert got.result() == COMPLETED
    await hall.assert_empty()


async def test_while_the_stream_is_broken_a_result_is_polled_for() -> None:
    engine = Following()
    hall = await Hall(engine).open()
    await hall.insert("1")
    got = hall.wait_settled("1", wait=60 * SECOND)
    await hall.settle()
    engine.following = False
    hall.long_polls.missed()
    await hall.settle()
    engine.listener = None  # as if another server did it
    await engine.commit([CommitRecord("1")], hall.clock.now())
    await hall.advance(SECOND)
    assert got.result() == COMPLETED
    await hall.advance(SECOND)
    await hall.assert_empty()


async def test_what_is_read_from_a_copy_that_lags_behind_is_read_again() -> None:
    class Lagging(Following):
        async def get(self, task_id: str) -> TaskRecord | None:
            task = copy.copy(await super().get(task_id))
            if task is not None and self.reads <= 2:
                task.state = PENDING
            return task

    engine = Lagging()
    hall = await Hall(engine).open()
    await hall.insert("1")
    got = hall.wait_settled("1", wait=60 * SECOND)
    await hall.settle()
    await engine.commit([CommitRecord("1")], hall.clock.now())
    await hall.settle()
    assert not got.done()
    await hall.advance(SECOND)
    assert got.result() == COMPLETED
    await hall.advance(SECOND)
    await hall.assert_empty()
