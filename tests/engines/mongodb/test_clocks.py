"""Two servers whose clocks differ by a second: nothing is lost, and nothing is done twice at a time."""

from __future__ import annotations

from functools import partial
from random import Random

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import MILLISECOND, SECOND, Harness

pytestmark = pytest.mark.anyio

TASKS = 60


async def test_clocks_that_differ_by_a_second(uri: str, database: str) -> None:
    harness = Harness(partial(MongodbEngine, uri, database=database))
    # The engine, and how far its clock is ahead.
    servers = [(await harness.start(), 0), (await harness.start(), SECOND)]
    draw = Random(3)
    for number in range(TASKS):
        engine, ahead = servers[number % 2]
        now = harness.now + ahead
        await engine.insert([TaskRecord(f"{number:02}", "t", now, now)], now)
    done: list[str] = []
    held: list[TaskRecord] = []
    for _ in range(100 * TASKS):
        harness.now += draw.randrange(200) * MILLISECOND
        engine, ahead = draw.choice(servers)
        now = harness.now + ahead
        if draw.random() < 0.5:
            held += await engine.claim(Selection(("t",), now + 3 * SECOND), now)
        elif held:
            task = held.pop(draw.randrange(len(held)))
            if draw.random() < 0.3:
                continue  # a consumer that dies
            (answer,) = await engine.commit([CommitRecord(task.id, task.nonce)], now)
            if isinstance(answer, TaskRecord):
                done.append(task.id)
        if len(done) == TASKS:
            break
    assert sorted(done) == [f"{number:02}" for number in range(TASKS)]
    await harness.end()
