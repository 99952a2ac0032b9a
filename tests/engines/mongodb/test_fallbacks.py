"""A sharded cluster refuses atomic operations whose query lacks the shard key: a proxy plays that part."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random
from typing import Any

import pytest
from ratus_engines.mongodb.engine import MongodbEngine
from ratus_engines.mongodb.fallbacks import POLL

from ratus.core.errors import InternalError
from ratus.core.records import ACTIVE, COMPLETED, PENDING
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import HOUR, Harness
from ratus.engine.testkit.machine import RandomMachine
from tests.engines.mongodb.proxy import Command, Fate, Proxy, name_of, refusal

pytestmark = pytest.mark.anyio

NO_SHARD_KEY = refusal(61, "Query for sharded findAndModify must contain the shard key")
NOT_THE_WHOLE_KEY = refusal(31025, "Shard key update is not allowed without the full shard key in the query")


class Cluster:
    """Plays a cluster in which the collection of tasks is sharded by this field, and no other is.

    ``refused`` has what it refused.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self.refused: list[Command] = []

    def __call__(self, command: Command) -> Fate | dict[str, Any]:
        answer: Fate | dict[str, Any] = Fate.PASS
        if command.get("findAndModify") == "tasks":
            if not isinstance(command["query"].get(self.key), str):
                update = command.get("update")
                moves = isinstance(update, dict) and self.key in update.get("$set", {})
                answer = NOT_THE_WHOLE_KEY if moves else NO_SHARD_KEY
        elif command.get("update") == "tasks":
            errors = [
                {"index": at, "code": 61, "errmsg": "upsert without the shard key"}
                for at, update in enumerate(command["updates"])
                if update.get("upsert") and self.key not in update["q"]
            ]
            if errors:
                answer = {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": errors}
        if answer is not Fate.PASS:
            self.refused.append(command)
        return answer


@pytest.mark.parametrize("key", ["topic", "_id"])
async def test_every_operation_works_and_is_refused_once(proxied: Harness, between: Proxy, key: str) -> None:
    between.rule = cluster = Cluster(key)
    harness = proxied
    for n in ("1", "2"):
        await harness.add(f"poll {n}", priority=1)
        await harness.add(f"id {n}", f"force {n}")
        assert (await harness.claim_one()).id == f"poll {n}"
        one = await harness.claim_task(f"id {n}")
        await harness.engine.extend(one.id, one.nonce, harness.now + HOUR, harness.now)
        assert await harness.engine.release(one.id, harness.now) is True
        two = await harness.claim_task(f"force {n}", force=True)
        assert (await harness.commit(two.id, two.nonce)).state == COMPLETED
        assert (await harness.commit(one.id, topic=f"moved {n}", state=PENDING)).topic == f"moved {n}"
        assert await harness.upsert(harness.task(f"put {n}"), harness.task(f"put {n}", producer="p")) == [
            True,
            False,
        ]
        assert await harness.upsert(harness.task(f"put {n}", f"put {n}")) == [False]
        assert await harness.ids(f"put {n}") == [f"put {n}"]
    operations = {"claim", "extend", "release", "commit", "upsert"} if key == "topic" else {POLL}
    assert isinstance(harness.engine, MongodbEngine)
    assert harness.engine.fallbacks.refused == operations
    assert len(cluster.refused) == len(operations)


async def test_no_difference_to_the_model(uri: str, between: Proxy, database: str) -> None:
    """Sharded by both at once, so that nothing is done in its atomic form."""
    by_topic, by_id = Cluster("topic"), Cluster("_id")

    def both(command: Command) -> Fate | dict[str, Any]:
        answer = by_topic(command)
        return by_id(command) if answer is Fate.PASS else answer

    between.rule = both
    machine = RandomMachine(partial(MongodbEngine, between.uri, database=database), Random(5))
    await machine.open()
    try:
        await machine.run(300)
    finally:
        await machine.engine.close(machine.now)
    assert by_topic.refused
    assert by_id.refused


@pytest.mark.parametrize("engines", [1, 2])
async def test_optimistic_callers_never_get_the_same_claim(uri: str, database: str, engines: int) -> None:
    harness = Harness(partial(MongodbEngine, uri, database=database, atomic_poll=False))
    callers = [await harness.start() for _ in range(engines)]
    harness.engine = callers[0]
    ids = {str(number) for number in range(60)}
    await harness.add(*ids)

    async def consume(number: int) -> list[str]:
        got = []
        engine = callers[number % engines]
        while tasks := await engine.claim(Selection(("t",), harness.now + HOUR, str(number)), harness.now):
            got += [task.id for task in tasks]
        return got

    claimed = [task_id for got in await asyncio.gather(*map(consume, range(8))) for task_id in got]
    assert sorted(claimed) == sorted(ids)
    await harness.end()


async def test_optimistic_polls_keep_the_order(uri: str, between: Proxy, database: str) -> None:
    harness = Harness(partial(MongodbEngine, between.uri, database=database, atomic_poll=False))
    harness.engine = await harness.start()
    await harness.add("c", "d", "b")
    await harness.add("a", priority=1)
    await harness.add("later", scheduled=harness.now + HOUR)
    assert [(await harness.claim_one()).id for _ in range(4)] == ["a", "c", "d", "b"]
    assert await harness.claim() == []
    polls = [command for command in between.seen if name_of(command) == "findAndModify"]
    assert len(polls) == 4
    assert all("_id" in poll["query"] and "nonce" in poll["query"] for poll in polls)
    await harness.end()


async def test_without_the_fallback_a_refusal_is_an_error(between: Proxy, database: str) -> None:
    harness = Harness(partial(MongodbEngine, between.uri, database=database, fallback=False))
    harness.engine = await harness.start()
    await harness.add("1")
    between.rule = Cluster("_id")
    for _ in range(2):
        with pytest.raises(InternalError, match="mongodb-disable-auto-fallback"):
            await harness.claim()
    assert (await harness.get("1")).state == PENDING
    between.rule = Cluster("topic")
    with pytest.raises(InternalError, match="code 61"):
        await harness.claim_task("1")
    assert (await harness.claim_one()).state == ACTIVE
    await harness.end()


async def test_other_errors_are_no_reason_to_fall_back(proxied: Harness, between: Proxy) -> None:
    await proxied.add("1")
    between.rule = lambda command: (
        refusal(2, "some other error") if name_of(command) == "findAndModify" else Fate.PASS
    )
    with pytest.raises(InternalError, match="some other error"):
        await proxied.claim()
    assert isinstance(proxied.engine, MongodbEngine)
    assert proxied.engine.fallbacks.refused == set()
