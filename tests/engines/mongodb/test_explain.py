"""What MongoDB has to look at: told by its own profiler, for the commands that are really sent."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ratus.core.errors import RatusError
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, CommitRecord, Rare, TaskRecord
from ratus.core.selection import Selection, Where
from ratus.engine.testkit.contract.life import CALLS
from ratus.engine.testkit.harness import HOUR, MILLISECOND, SECOND, Harness
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio

MOST_DOCUMENTS, MOST_KEYS = 2, 40


@pytest.fixture
def database(uri: str) -> str:
    """A database of these tests alone: an index that has ever held an array is not in order any more."""
    name = f"ratus_explain_{os.getpid()}"
    servers.fresh(name)
    return name


@contextmanager
def profiled(database: str) -> Iterator[list[dict[str, Any]]]:
    """The profiles of what is done within the block, filled in at its end."""
    data = servers.shared_client()[database]
    data["system.profile"].drop()
    found: list[dict[str, Any]] = []
    data.command("profile", 2)
    try:
        yield found
    finally:
        data.command("profile", 0)
        found += [entry for entry in data["system.profile"].find() if entry["ns"] == f"{database}.tasks"]


async def fill(harness: Harness, count: int) -> None:
    """So many tasks of every kind, and in every priority as many that are not due yet."""
    number = itertools.count()

    async def add(many: int, **members: Any) -> None:
        await harness.add(*(f"{next(number):06}" for _ in range(many)), **members)

    for priority in range(-9, 10):
        await add(count, priority=priority, scheduled=harness.now + HOUR, expires=harness.now + 2 * HOUR)
    await add(count, scheduled=harness.now - HOUR)
    await add(count, state=ACTIVE, deadline=harness.now + HOUR)
    await add(count, state=COMPLETED, committed=harness.now - SECOND)
    await add(count, state=ARCHIVED)
    await add(count, topic="other", scheduled=harness.now - HOUR, priority=9)
    await add(count, topic="expired", expires=harness.now - HOUR)


@pytest.mark.parametrize("count", [5, 500])
async def test_a_claim_looks_at_few_keys_whatever_the_size(
    harness: Harness, database: str, count: int
) -> None:
    await fill(harness, count)
    # The worst case: the only due tasks are in the last priority.
    await harness.engine.release_topic("t", harness.now)
    while await harness.claim(limit=1000):
        pass
    await harness.add("last", "last too", priority=-9, scheduled=harness.now)
    with profiled(database) as profiles:
        assert (await harness.claim_one()).id == "last"
        harness.now += 200 * MILLISECOND  # what was known of the topic is known no more
        assert (await harness.claim_one()).id == "last too"
        assert await harness.claim() == []
    claims = [entry for entry in profiles if entry["command"].get("findAndModify")]
    assert len(claims) >= 3
    for entry in profiles:
        assert entry["docsExamined"] <= MOST_DOCUMENTS, entry
        assert entry["keysExamined"] <= MOST_KEYS, entry
    for at in (0, 1):
        beside = [entry for entry in profiles if not entry["command"].get("findAndModify")]
        assert (
            claims[at]["keysExamined"] + sum(e["keysExamined"] for e in beside[3 * at : 3 * at + 3])
            <= MOST_KEYS
        )


async def test_what_is_known_by_id_is_found_by_id(harness: Harness, database: str) -> None:
    await fill(harness, 20)
    await harness.add("1", "2", "3")
    with profiled(database) as profiles:
        task = await harness.claim_task("1")
        await harness.claim_task("2", force=True)
        await harness.engine.extend("1", task.nonce, harness.now + HOUR, harness.now)
        await harness.commit("1", task.nonce)
        await harness.commit("1", error="boom")
        await harness.engine.release("2", harness.now)
        await harness.upsert(harness.task("3"))
        await harness.get("3")
        await harness.engine.delete_task("3")
    assert len(profiles) >= 9
    for entry in profiles:
        assert entry.get("docsExamined", 0) <= 1, entry
        assert entry.get("keysExamined", 0) <= 1, entry


@pytest.mark.parametrize("name", CALLS)
async def test_every_query_uses_an_index(harness: Harness, database: str, name: str) -> None:
    await fill(harness, 10)
    await harness.claim(limit=3)
    harness.now += 2 * HOUR
    with profiled(database) as profiles, suppress(RatusError):
        await CALLS[name](harness.engine)
    for entry in profiles:
        assert "COLLSCAN" not in entry.get("planSummary", ""), entry
        # The names of topics are sorted once they are found.
        assert not entry.get("hasSortStage") or name == "list_topics", entry


async def test_many_claims_look_at_as_many_documents(harness: Harness, database: str) -> None:
    await fill(harness, 100)
    with profiled(database) as profiles:
        tasks = await harness.engine.claim(Selection(("t",), harness.now + HOUR, "", 50), harness.now)
        await harness.engine.commit([CommitRecord(task.id, task.nonce) for task in tasks], harness.now)
    assert len(tasks) == 50
    # Looked up, claimed, read back; read and committed.
    assert sum(entry.get("docsExamined", 0) for entry in profiles) <= 5 * 50 + MOST_DOCUMENTS


async def test_looking_at_a_topic_reads_no_documents(harness: Harness, database: str) -> None:
    await fill(harness, 100)
    with profiled(database) as profiles:
        await harness.info()
        await harness.engine.next_due("t", harness.now)
        await harness.engine.list_topics(10, 0)
    assert sum(entry["docsExamined"] for entry in profiles) <= MOST_DOCUMENTS
    (names,) = [e for e in profiles if e["command"].get("pipeline", [{}])[0] == {"$group": {"_id": "$topic"}}]
    assert names["keysExamined"] <= 2 * 3


async def test_what_is_chosen_is_looked_up_in_an_index(harness: Harness, database: str) -> None:
    def labelled(name: str, labels: bytes, **members: Any) -> TaskRecord:
        return harness.task(name, rare=Rare(labels=labels), **members)

    await harness.insert(
        *(labelled(f"{c}{n:03}", b'{"customer":"%s"}' % c.encode()) for n in range(100) for c in "ab"),
        *(labelled(f"rare {n}", b'{"customer":"a","region":"eu"}', priority=-1) for n in range(3)),
    )
    where = Where("region", ("eu", "us"))
    await harness.claim_ids(limit=1, prefer=("customer",))
    with profiled(database) as profiles:
        pairs = (("customer", "a"), ("region", "eu"))
        assert await harness.ids(labels=pairs) == ["rare 0", "rare 1", "rare 2"]
        assert await harness.claim_ids(limit=1, where=where) == ["rare 0"]
        assert await harness.claim_ids(limit=1, order="newest", where=where) == ["rare 2"]
        assert await harness.claim_ids(limit=1, prefer=("customer",)) == ["b000"]
        assert await harness.engine.next_due("t", harness.now, where) == harness.now
    assert len(profiles) >= 8
    for entry in profiles:
        if entry["command"].get("pipeline", [{}])[-1] == {"$count": "count"}:
            continue  # looks for the rarest, at a bounded number of keys
        assert "COLLSCAN" not in entry.get("planSummary", ""), entry
        assert entry.get("docsExamined", 0) <= 6, entry
        assert entry.get("keysExamined", 0) <= MOST_KEYS, entry
