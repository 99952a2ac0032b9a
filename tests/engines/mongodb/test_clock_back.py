"""The clock of a server is set back: what was due stays due, by each of the ways in which claims are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.records import Claim, RetryPolicy, TopicInfo
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, Desk

pytestmark = pytest.mark.anyio

LONG = 10_000 * HOUR


@pytest.fixture(params=[True, False], ids=["atomic", "optimistic"])
async def desk(request: pytest.FixtureRequest, uri: str, database: str) -> AsyncIterator[Desk]:
    desk = Desk("mongodb", partial(MongodbEngine, uri, database=database, atomic_poll=request.param))
    desk.engine = await desk.start()
    yield desk
    await desk.end()


async def claimed(desk: Desk, *, limit: int = 100) -> list[str]:
    return [task.id for task in await desk.claim(limit=limit, timeout=LONG)]


async def test_what_was_due_stays_due(desk: Desk) -> None:
    await desk.add("1", "2", "3")
    await desk.add("later", scheduled=desk.now + MINUTE)
    desk.now -= HOUR
    await desk.add("deferred", scheduled=desk.now + SECOND)
    assert (await desk.info()).due == 3
    found: list[TopicInfo] = []
    await desk.engine.survey(desk.now, found.append)
    assert [info.due for info in found] == [3]
    assert await claimed(desk, limit=1) == ["1"]
    assert await claimed(desk) == ["2", "3"]
    assert await claimed(desk) == []
    desk.now += SECOND
    assert await claimed(desk) == ["deferred"]


async def test_callers_who_come_together_get_what_was_due(desk: Desk) -> None:
    await desk.add(*map(str, range(10)))
    desk.now -= HOUR
    await desk.add("deferred", scheduled=desk.now + SECOND, priority=9)
    claim = Claim(("t",), desk.now + LONG, "me", 1)
    answers = await asyncio.gather(*(desk.engine.claim(claim, desk.now) for _ in range(12)))
    assert sorted(task.id for tasks in answers for task in tasks) == sorted(map(str, range(10)))


async def test_a_task_that_lapses_is_due_again_and_one_that_failed_waits(desk: Desk) -> None:
    await desk.add("lapses")
    await desk.add("fails", retry=RetryPolicy(delay=10 * SECOND, jitter=0))
    desk.now -= HOUR
    tasks = {task.id: task for task in await desk.claim(limit=2, timeout=SECOND)}
    await desk.fail("fails", tasks["fails"].nonce)
    desk.now += SECOND
    assert await claimed(desk) == ["lapses"]
    desk.now += 9 * SECOND
    assert await claimed(desk) == ["fails"]


async def test_behind_many_that_expired(desk: Desk) -> None:
    await desk.add(*(f"old {n}" for n in range(1200)), expires=desk.now - 2 * HOUR)
    await desk.add("1")
    desk.now -= HOUR
    for _ in range(3):
        if found := await claimed(desk):
            assert found == ["1"]
            return
    raise AssertionError("the task was not handed out")


async def test_the_latest_time_is_forgotten_once_nothing_depends_on_it(desk: Desk) -> None:
    """A clock that was a year ahead for a moment must not have claims look at tasks of a whole year."""
    assert isinstance(desk.engine, MongodbEngine)
    due = desk.engine._due
    await desk.add("pending", "active")
    await desk.claim_task("active", timeout=LONG)
    desk.now -= HOUR
    await desk.add("deferred", scheduled=desk.now + MINUTE)
    await desk.engine.maintain(desk.now)
    assert due.is_back(desk.now)
    assert await claimed(desk) == ["pending"]
    await desk.engine.maintain(desk.now)
    assert due.is_back(desk.now)  # the active one may lapse
    await desk.commit("active")
    await desk.engine.maintain(desk.now)
    assert not due.is_back(desk.now)
    assert await claimed(desk) == []
