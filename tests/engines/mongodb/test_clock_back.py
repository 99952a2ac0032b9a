"""The clock of a server is set back: what was due stays due, by each of the ways in which claims are made."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.records import RetryPolicy, TopicInfo
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness

pytestmark = pytest.mark.anyio

LONG = 10_000 * HOUR


@pytest.fixture(params=[True, False], ids=["atomic", "optimistic"])
async def harness(request: pytest.FixtureRequest, uri: str, database: str) -> AsyncIterator[Harness]:
    harness = Harness(partial(MongodbEngine, uri, database=database, atomic_poll=request.param))
    harness.engine = await harness.start()
    yield harness
    await harness.end()


async def claimed(harness: Harness, *, limit: int = 100) -> list[str]:
    return [task.id for task in await harness.claim(limit=limit, timeout=LONG)]


async def test_what_was_due_stays_due(harness: Harness) -> None:
    await harness.add("1", "2", "3")
    await harness.add("later", scheduled=harness.now + MINUTE)
    harness.now -= HOUR
    await harness.add("deferred", scheduled=harness.now + SECOND)
    assert (await harness.info()).due == 3
    found: list[TopicInfo] = []
    await harness.engine.survey(harness.now, found.append)
    assert [info.due for info in found] == [3]
    assert await claimed(harness, limit=1) == ["1"]
    assert await claimed(harness) == ["2", "3"]
    assert await claimed(harness) == []
    harness.now += SECOND
    assert await claimed(harness) == ["deferred"]


async def test_callers_who_come_together_get_what_was_due(harness: Harness) -> None:
    await harness.add(*map(str, range(10)))
    harness.now -= HOUR
    await harness.add("deferred", scheduled=harness.now + SECOND, priority=9)
    selection = Selection(("t",), harness.now + LONG, "me", 1)
    answers = await asyncio.gather(*(harness.engine.claim(selection, harness.now) for _ in range(12)))
    assert sorted(task.id for tasks in answers for task in tasks) == sorted(map(str, range(10)))


async def test_a_task_that_lapses_is_due_again_and_one_that_failed_waits(harness: Harness) -> None:
    await harness.add("lapses")
    await harness.add("fails", retry=RetryPolicy(delay=10 * SECOND, jitter=0))
    harness.now -= HOUR
    tasks = {task.id: task for task in await harness.claim(limit=2, timeout=SECOND)}
    await harness.fail("fails", tasks["fails"].nonce)
    harness.now += SECOND
    assert await claimed(harness) == ["lapses"]
    harness.now += 9 * SECOND
    assert await claimed(harness) == ["fails"]


async def test_behind_many_that_expired(harness: Harness) -> None:
    await harness.add(*(f"old {n}" for n in range(1200)), expires=harness.now - 2 * HOUR)
    await harness.add("1")
    harness.now -= HOUR
    for _ in range(3):
        if found := await claimed(harness):
            assert found == ["1"]
            return
    raise AssertionError("the task was not handed out")


async def test_the_latest_time_is_forgotten_once_nothing_depends_on_it(harness: Harness) -> None:
    """A clock that was a year ahead for a moment must not have claims look at tasks of a whole year."""
    assert isinstance(harness.engine, MongodbEngine)
    due = harness.engine._due
    await harness.add("pending", "active")
    await harness.claim_task("active", timeout=LONG)
    harness.now -= HOUR
    await harness.add("deferred", scheduled=harness.now + MINUTE)
    await harness.engine.maintain(harness.now)
    assert due.is_back(harness.now)
    assert await claimed(harness) == ["pending"]
    await harness.engine.maintain(harness.now)
    assert due.is_back(harness.now)  # the active one may lapse
    await harness.commit("active")
    await harness.engine.maintain(harness.now)
    assert not due.is_back(harness.now)
    assert await claimed(harness) == []
