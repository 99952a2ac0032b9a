"""Waiting requests in front of engines that fail or take their time: nothing is lost, nobody forgotten."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from random import Random

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.clock import SECOND
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.engine import Traits
from tests.runtime.hall import Hall, Peer, Slow

pytestmark = pytest.mark.anyio


class Troubled(MemdbEngine):
    """Raises these errors, one a claim, before it works."""

    errors: Sequence[Exception] = ()

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        if self.errors:
            error, *self.errors = self.errors
            raise error
        return await super().claim(selection, now)


async def test_an_error_of_the_engine_reaches_who_waits() -> None:
    engine = Troubled()
    hall = await Hall(engine).open()
    first, second = hall.wait(), hall.wait()
    await hall.settle()
    engine.errors = [ServiceUnavailable("the database is away")]
    await hall.insert("1")
    await hall.settle()
    assert isinstance(first.exception(), ServiceUnavailable)
    assert second.result() == ["1"]
    await hall.assert_empty()


async def test_a_defect_of_the_engine_is_logged_and_waiting_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    engine = Troubled()
    hall = await Hall(engine).open()
    got = hall.wait()
    await hall.settle()
    engine.errors = [RuntimeError("a defect")]
    await hall.insert("1")
    await hall.settle()
    assert not got.done()
    assert [(record.levelno, bool(record.exc_info)) for record in caplog.records] == [(logging.ERROR, True)]
    await hall.advance(SECOND)
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_an_engine_that_is_away_between_two_claims_is_asked_again() -> None:
    class Away(MemdbEngine):
        async def next_due(self, topic: str, now: int, where: Where | None = None) -> int | None:
            raise ServiceUnavailable("the database is away")

    hall = await Hall(Away()).open()
    await hall.insert("1", later=SECOND // 2)
    got = hall.wait()
    await hall.settle()
    await hall.advance(SECOND)
    assert got.result() == ["1"]
    await hall.assert_empty()


async def test_what_other_servers_do_on_the_same_data_is_noticed() -> None:
    engine = MemdbEngine()
    engine.traits = Traits(name="shared", durable=False, shared=True)
    hall = await Hall(engine).open()
    await hall.insert("done", topic="other")
    got, settled = hall.wait(), hall.wait_settled("done")
    await hall.settle()
    engine.listener = None  # as if another server did it
    await hall.insert("1")
    await engine.commit([CommitRecord("done")], hall.clock.now())
    engine.listener = hall.long_polls
    for _ in range(10):
        await hall.advance(SECOND // 10)
    assert (got.result(), settled.result()) == (["1"], COMPLETED)
    await hall.advance(SECOND)
    await hall.assert_empty()


@pytest.mark.parametrize("seed", range(20))
async def test_an_engine_that_takes_its_time_loses_nothing(seed: int) -> None:
    """Requests come, go and are cancelled while tasks come; nothing but signals wakes those that wait."""
    draw = Random(seed)
    hall = await Hall(Slow(seed)).open()
    topics = ["a", "b", "c"]
    peers: list[Peer] = []
    for number in range(60):
        if draw.random() < 0.6:
            peers.append(Peer())
            wanted = draw.sample(topics, draw.randint(1, 3))
            hall.wait(*wanted, limit=draw.choice([1, 1, 3]), peer=peers[-1])
        if draw.random() < 0.7:
            await hall.insert(
                *(f"{number}-{n}" for n in range(draw.choice([1, 1, 2]))), topic=draw.choice(topics)
            )
        if peers and draw.random() < 0.1:
            peer = draw.choice(peers)
            if peer.callback is not None:
                peer.go()
        if hall.waits and draw.random() < 0.1:
            draw.choice(hall.waits).cancel()
        for _ in range(draw.randrange(4)):
            await asyncio.sleep(0)
    for _ in range(20):
        await hall.settle()
    answers = [wait.result() for wait in hall.waits if wait.done() and not wait.cancelled()]
    got = [task_id for answer in answers for task_id in answer]
    assert len(got) == len(set(got))
    active = 0
    for topic in topics:
        info = await hall.engine.get_topic(topic, hall.clock.now())
        if info is not None:
            assert info.counts[PENDING] == 0 or hall.long_polls.is_empty(Selection((topic,))), (
                "a waiting poll was not woken"
            )
            active += info.counts[ACTIVE]
    assert active == len(got), "a task was claimed for somebody who never got it"
    await hall.advance(10 * SECOND)
    for _ in range(5):
        await hall.settle()
    await hall.assert_empty()


class Database(MemdbEngine):
    """Takes as long for many claims as for one: three turns of the loop. Counts them."""

    traits = Traits(name="database", durable=False, shared=False)

    def __init__(self) -> None:
        super().__init__()
        self.claims = self.under_way = self.most = 0

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        self.claims += 1
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        tasks = await super().claim(selection, now)
        for _ in range(3):
            await asyncio.sleep(0)
        self.under_way -= 1
        return tasks


async def test_many_tasks_are_handed_out_at_the_same_time_and_in_order() -> None:
    engine = Database()
    hall = await Hall(engine).open()
    waits = [hall.wait() for _ in range(200)]
    await hall.settle()
    engine.claims = 0
    await hall.insert(*map(str, range(150)))
    for _ in range(5):
        await hall.settle()
    assert [wait.result() for wait in waits[:150]] == [[str(number)] for number in range(150)]
    assert not any(wait.done() for wait in waits[150:])
    assert engine.most == 64
    # 1, 1, 2, 4, 8, 16, 32 and 64 found one each, of another 64 only 22 did, and a last one found nothing.
    assert engine.claims == 193
    await hall.insert(*map(str, range(150, 200)))
    for _ in range(5):
        await hall.settle()
    await hall.assert_empty()


async def test_one_task_does_not_have_everybody_claim() -> None:
    engine = Database()
    hall = await Hall(engine).open()
    waits = [hall.wait() for _ in range(100)]
    await hall.settle()
    engine.claims = 0
    await hall.insert("1")
    await hall.settle()
    assert waits[0].result() == ["1"]
    assert engine.claims == 2
    for wait in waits[1:]:
        wait.cancel()
    await hall.assert_empty()


class Held(MemdbEngine):
    """Keeps the answer to the first claim back until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.answer = asyncio.Event()
        self.held = False

    async def claim(self, selection: Selection, now: int) -> list[TaskRecord]:
        tasks = await super().claim(selection, now)
        if not self.held:
            self.held = True
            await self.answer.wait()
        return tasks


async def test_who_came_first_is_served_first_even_while_the_engine_works_for_it() -> None:
    engine = Held()
    hall = await Hall(engine).open()
    first = hall.wait("a", "b")
    await hall.settle()  # its claim, which finds nothing, is under way
    second = hall.wait("b")
    await hall.insert("1", topic="b")
    await hall.settle()
    engine.answer.set()
    await hall.settle()
    assert first.result() == ["1"]
    assert not second.done()
    await hall.insert("2", topic="b")
    await hall.settle()
    assert second.result() == ["2"]
    await hall.assert_empty()


@pytest.mark.parametrize("end", ["gone", "cancelled", "over", "closed"])
async def test_a_task_claimed_for_somebody_who_left_is_released_at_once(end: str) -> None:
    engine = Held()
    hall = await Hall(engine).open()
    await hall.insert("1")
    peer = Peer()
    first = hall.wait(peer=peer, wait=SECOND)
    await hall.settle()
    assert await hall.state("1") == ACTIVE
    if end == "gone":
        peer.go()
    elif end == "cancelled":
        first.cancel()
    elif end == "over":
        hall.clock.advance(SECOND)
    else:
        hall.long_polls.close()
    await hall.settle()
    assert first.done()
    engine.answer.set()
    await hall.settle()
    task = await engine.get("1")
    assert task is not None
    assert (task.state, task.attempts) == (PENDING, 0)
    await hall.assert_empty()
