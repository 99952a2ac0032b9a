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
from ratus.core.records import ACTIVE, COMPLETED, PENDING, Claim
from tests.engines.contract.desk import HOUR, Desk
from tests.engines.contract.machine import Machine
from tests.engines.mongodb.proxy import Command, Fate, Proxy, name_of, refusal

pytestmark = pytest.mark.anyio

NO_SHARD_KEY = refusal(61, "Query for sharded findAndModify must contain the shard key")
NOT_THE_WHOLE_KEY = refusal(31025, "Shard key update is not allowed without the full shard key in the query")


class Cluster:
    """Plays a cluster sharded by this field. ``refused`` counts what it refused, by the kind of operation."""

    def __init__(self, key: str) -> None:
        self.key = key
        self.refused: list[Command] = []

    def __call__(self, command: Command) -> Fate | dict[str, Any]:
        answer: Fate | dict[str, Any] = Fate.PASS
        if name_of(command) == "findAndModify":
            if not isinstance(command["query"].get(self.key), str):
                moves = isinstance(command["update"], dict) and self.key in command["update"].get("$set", {})
                answer = NOT_THE_WHOLE_KEY if moves else NO_SHARD_KEY
        elif name_of(command) == "update":
            errors = [
                {"index": at, "code": 61, "errmsg": "upsert without the shard key"}
                for at, update in enumerate(command["updates"])
                if update.get("upsert") and self.key not in update["q"] and command["update"] == "tasks"
            ]
            if errors:
                answer = {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": errors}
        if answer is not Fate.PASS:
            self.refused.append(command)
        return answer


@pytest.mark.parametrize("key", ["topic", "_id"])
async def test_every_operation_works_and_is_refused_once(proxied: Desk, between: Proxy, key: str) -> None:
    between.rule = cluster = Cluster(key)
    desk = proxied
    for n in ("1", "2"):
        await desk.add(f"poll {n}", priority=1)
        await desk.add(f"id {n}", f"force {n}")
        assert (await desk.claim_one()).id == f"poll {n}"
        one = await desk.claim_task(f"id {n}")
        await desk.engine.extend(one.id, one.nonce, desk.now + HOUR, desk.now)
        assert await desk.engine.release(one.id, desk.now) is True
        two = await desk.claim_task(f"force {n}", force=True)
        assert (await desk.commit(two.id, two.nonce)).state == COMPLETED
        assert (await desk.commit(one.id, topic=f"moved {n}", state=PENDING)).topic == f"moved {n}"
        assert await desk.upsert(desk.task(f"put {n}"), desk.task(f"put {n}", producer="p")) == [True, False]
        assert await desk.upsert(desk.task(f"put {n}", f"put {n}")) == [False]
        assert await desk.ids(f"put {n}") == [f"put {n}"]
    operations = {"claim", "extend", "release", "commit", "upsert"} if key == "topic" else {POLL}
    assert isinstance(desk.engine, MongodbEngine)
    assert desk.engine.fallbacks.refused == operations
    assert len(cluster.refused) == len(operations)


async def test_no_difference_to_the_model(uri: str, between: Proxy, database: str) -> None:
    """Sharded by both at once, so that nothing is done in its atomic form."""
    by_topic, by_id = Cluster("topic"), Cluster("_id")

    def both(command: Command) -> Fate | dict[str, Any]:
        answer = by_topic(command)
        return by_id(command) if answer is Fate.PASS else answer

    between.rule = both
    machine = Machine(partial(MongodbEngine, between.uri, database=database), Random(5))
    await machine.open()
    try:
        await machine.run(300)
    finally:
        await machine.engine.close(machine.now)
    assert by_topic.refused
    assert by_id.refused


@pytest.mark.parametrize("engines", [1, 2])
async def test_optimistic_callers_never_get_the_same_claim(uri: str, database: str, engines: int) -> None:
    desk = Desk("mongodb", partial(MongodbEngine, uri, database=database, atomic_poll=False))
    callers = [await desk.start() for _ in range(engines)]
    desk.engine = callers[0]
    ids = {str(number) for number in range(60)}
    await desk.add(*ids)

    async def consume(number: int) -> list[str]:
        got = []
        engine = callers[number % engines]
        while tasks := await engine.claim(Claim(("t",), desk.now + HOUR, str(number)), desk.now):
            got += [task.id for task in tasks]
        return got

    claimed = [task_id for got in await asyncio.gather(*map(consume, range(8))) for task_id in got]
    assert sorted(claimed) == sorted(ids)
    await desk.end()


async def test_optimistic_polls_keep_the_order(uri: str, between: Proxy, database: str) -> None:
    desk = Desk("mongodb", partial(MongodbEngine, between.uri, database=database, atomic_poll=False))
    desk.engine = await desk.start()
    await desk.add("c", "d", "b")
    await desk.add("a", priority=1)
    await desk.add("later", scheduled=desk.now + HOUR)
    assert [(await desk.claim_one()).id for _ in range(4)] == ["a", "c", "d", "b"]
    assert await desk.claim() == []
    polls = [command for command in between.seen if name_of(command) == "findAndModify"]
    assert len(polls) == 4
    assert all("_id" in poll["query"] and "nonce" in poll["query"] for poll in polls)
    await desk.end()


async def test_without_the_fallback_a_refusal_is_an_error(between: Proxy, database: str) -> None:
    desk = Desk("mongodb", partial(MongodbEngine, between.uri, database=database, fallback=False))
    desk.engine = await desk.start()
    await desk.add("1")
    between.rule = Cluster("_id")
    for _ in range(2):
        with pytest.raises(InternalError, match="mongodb-disable-auto-fallback"):
            await desk.claim()
    assert (await desk.get("1")).state == PENDING
    between.rule = Cluster("topic")
    with pytest.raises(InternalError, match="code 61"):
        await desk.claim_task("1")
    assert (await desk.claim_one()).state == ACTIVE
    await desk.end()


async def test_other_errors_are_no_reason_to_fall_back(proxied: Desk, between: Proxy) -> None:
    await proxied.add("1")
    between.rule = lambda command: (
        refusal(2, "some other error") if name_of(command) == "findAndModify" else Fate.PASS
    )
    with pytest.raises(InternalError, match="some other error"):
        await proxied.claim()
    assert isinstance(proxied.engine, MongodbEngine)
    assert proxied.engine.fallbacks.refused == set()
