"""The indexes: what is made, what is kept, and that everything works without them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from functools import partial
from random import Random
from typing import Any

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.records import COMPLETED
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness
from ratus.engine.testkit.machine import RandomMachine
from tests.absent import absent
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio


@pytest.fixture
async def bare(uri: str, database: str) -> AsyncIterator[str]:
    """A database without collections."""
    client = servers.shared_client()
    client.drop_database(f"{database}_bare")
    yield f"{database}_bare"
    client.drop_database(f"{database}_bare")


def existing(database: str) -> dict[str, Any]:
    return dict(servers.shared_client()[database].tasks.index_information())


async def opened(uri: str, database: str, **options: Any) -> Harness:
    harness = Harness(partial(MongodbEngine, uri, database=database, **options))
    harness.engine = await harness.start()
    await harness.engine.get("1")  # whatever has to be prepared, is
    return harness


async def test_those_of_a_ratus_in_go_have_their_names_and_filters(uri: str, bare: str) -> None:
    harness = await opened(uri, bare)
    found = existing(bare)
    for name, keys, state in (
        ("topic_hashed", [("topic", "hashed")], None),
        ("topic_1_scheduled_1", [("topic", 1), ("scheduled", 1)], 0),
        ("deadline_1", [("deadline", 1)], 1),
        ("topic_1", [("topic", 1)], 1),
    ):
        assert found[name]["key"] == keys
        assert found[name].get("partialFilterExpression") == (None if state is None else {"state": state})
    assert found["committed_1"]["key"] == [("committed", 1)]
    assert found["committed_1"]["partialFilterExpression"] == {"state": 2}
    assert found["committed_1"]["expireAfterSeconds"] == 72 * 3600
    assert "consumed_1" not in found
    await harness.end()


async def test_those_that_are_there_are_kept(uri: str, bare: str, caplog: pytest.LogCaptureFixture) -> None:
    """As a Ratus in Go makes them, with the one that deletes too early."""
    tasks = servers.shared_client()[bare].tasks
    tasks.create_index([("topic", "hashed")], name="topic_hashed")
    for keys, state in (("topic", 1), ("deadline", 1)):
        tasks.create_index(keys, name=f"{keys}_1", partialFilterExpression={"state": state})
    tasks.create_index(
        [("topic", 1), ("scheduled", 1)], name="topic_1_scheduled_1", partialFilterExpression={"state": 0}
    )
    tasks.create_index(
        "consumed", name="consumed_1", partialFilterExpression={"state": 2}, expireAfterSeconds=259200
    )
    before = existing(bare)
    harness = await opened(uri, bare)
    found = existing(bare)
    assert {name: found[name] for name in before} == before
    assert "dropIndex('consumed_1')" in caplog.text
    await harness.add("1")
    assert (await harness.claim_one()).id == "1"
    await harness.end()


async def test_the_retention_follows_the_setting(uri: str, bare: str) -> None:
    for retention, seconds in ((HOUR, 3600), (MINUTE, 60), (1_500_000, 2), (0, 0), (10**18, 2**31 - 1)):
        harness = await opened(uri, bare, retention=retention)
        assert existing(bare)["committed_1"]["expireAfterSeconds"] == seconds
        await harness.end()


async def test_none_are_made_where_that_is_switched_off(
    uri: str, bare: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers.shared_client()[bare].tasks.create_index(
        "committed", name="committed_1", partialFilterExpression={"state": 2}, expireAfterSeconds=7
    )
    harness = await opened(uri, bare, create_indexes=False, retention=HOUR)
    found = existing(bare)
    assert set(found) == {"_id_", "committed_1"}
    assert found["committed_1"]["expireAfterSeconds"] == 7
    assert "topic_1_deadline_1" in caplog.text
    await harness.end()


async def test_without_any_index_everything_works(uri: str, bare: str) -> None:
    machine = RandomMachine(partial(MongodbEngine, uri, database=bare, create_indexes=False), Random(7))
    await machine.open()
    try:
        await machine.run(150)
    finally:
        await machine.engine.close(machine.now)


async def test_an_index_that_is_dropped_meanwhile(harness: Harness, database: str) -> None:
    await harness.add("1", "2")
    servers.shared_client()[database].tasks.drop_indexes()
    try:
        with pytest.raises(ServiceUnavailable, match="ask again"):
            await harness.claim()
        assert (await harness.claim_one()).id == "1"
        assert "topic_1_deadline_1" in existing(database)
    finally:
        await harness.reopen()


async def test_one_that_cannot_be_had_costs_no_other(
    uri: str, bare: str, caplog: pytest.LogCaptureFixture
) -> None:
    servers.shared_client()[bare].tasks.create_index("producer", name="topic_1_deadline_1")
    harness = await opened(uri, bare)
    found = existing(bare)
    assert found["topic_1_deadline_1"]["key"] == [("producer", 1)]
    assert "topic_1_expires_1" in found
    assert "topic_1_deadline_1" in caplog.text
    await harness.add("1")
    await harness.end()


async def test_mongodb_deletes_what_is_over_its_retention() -> None:
    """With MongoDB's own clock and its monitor, which looks once a second here."""
    if servers.mongod() is None:
        absent(servers.ABSENT)
    server = servers.Mongod("--setParameter", "ttlMonitorSleepSecs=1")
    server.wait()
    try:
        harness = await opened(f"mongodb://{server.address}", "ratus", retention=SECOND)
        harness.now = time.time_ns() // 1000
        await harness.add("pending", "claimed", "archived", "old", "new")
        await harness.claim_task("claimed")
        await harness.commit("archived", state=3)
        harness.now -= MINUTE
        await harness.commit("old")
        harness.now += MINUTE + HOUR
        assert (await harness.commit("new")).state == COMPLETED
        async with asyncio.timeout(30):
            while not await harness.is_gone("old"):
                await asyncio.sleep(0.05)
        assert sorted(await harness.ids()) == ["archived", "claimed", "new", "pending"]
        await harness.end()
    finally:
        server.remove()
