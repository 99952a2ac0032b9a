"""What MongoDB has to look at: told by its own profiler, for the commands that are really sent."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from ratus.core.errors import RatusError
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, Claim, CommitRecord
from tests.engines.contract.desk import HOUR, MILLISECOND, SECOND, Desk
from tests.engines.contract.test_life import CALLS
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio

MOST_DOCUMENTS, MOST_KEYS = 2, 40


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


async def fill(desk: Desk, count: int) -> None:
    """So many tasks of every kind, and in every priority as many that are not due yet."""
    number = itertools.count()

    async def add(many: int, **members: Any) -> None:
        await desk.add(*(f"{next(number):06}" for _ in range(many)), **members)

    for priority in range(-9, 10):
        await add(count, priority=priority, scheduled=desk.now + HOUR, expires=desk.now + 2 * HOUR)
    await add(count, scheduled=desk.now - HOUR)
    await add(count, state=ACTIVE, deadline=desk.now + HOUR)
    await add(count, state=COMPLETED, committed=desk.now - SECOND)
    await add(count, state=ARCHIVED)
    await add(count, topic="other", scheduled=desk.now - HOUR, priority=9)
    await add(count, topic="expired", expires=desk.now - HOUR)


@pytest.mark.parametrize("count", [5, 500])
async def test_a_claim_looks_at_few_keys_whatever_the_size(desk: Desk, database: str, count: int) -> None:
    await fill(desk, count)
    # The worst case: the only due tasks are in the last priority.
    await desk.engine.release_topic("t", desk.now)
    while await desk.claim(limit=1000):
        pass
    await desk.add("last", "last too", priority=-9, scheduled=desk.now)
    with profiled(database) as profiles:
        assert (await desk.claim_one()).id == "last"
        desk.now += 200 * MILLISECOND  # what was known of the topic is known no more
        assert (await desk.claim_one()).id == "last too"
        assert await desk.claim() == []
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


async def test_what_is_known_by_id_is_found_by_id(desk: Desk, database: str) -> None:
    await fill(desk, 20)
    await desk.add("1", "2", "3")
    with profiled(database) as profiles:
        task = await desk.claim_task("1")
        await desk.claim_task("2", force=True)
        await desk.engine.extend("1", task.nonce, desk.now + HOUR, desk.now)
        await desk.commit("1", task.nonce)
        await desk.commit("1", error="boom")
        await desk.engine.release("2", desk.now)
        await desk.upsert(desk.task("3"))
        await desk.get("3")
        await desk.engine.delete_task("3")
    assert len(profiles) >= 9
    for entry in profiles:
        assert entry.get("docsExamined", 0) <= 1, entry
        assert entry.get("keysExamined", 0) <= 1, entry


@pytest.mark.parametrize("name", CALLS)
async def test_every_query_uses_an_index(desk: Desk, database: str, name: str) -> None:
    await fill(desk, 10)
    await desk.claim(limit=3)
    desk.now += 2 * HOUR
    with profiled(database) as profiles, suppress(RatusError):
        await CALLS[name](desk.engine)
    for entry in profiles:
        assert "COLLSCAN" not in entry.get("planSummary", ""), entry
        # The names of topics are sorted once they are found.
        assert not entry.get("hasSortStage") or name == "list_topics", entry


async def test_many_claims_look_at_as_many_documents(desk: Desk, database: str) -> None:
    await fill(desk, 100)
    with profiled(database) as profiles:
        tasks = await desk.engine.claim(Claim(("t",), desk.now + HOUR, "", 50), desk.now)
        await desk.engine.commit([CommitRecord(task.id, task.nonce) for task in tasks], desk.now)
    assert len(tasks) == 50
    # Looked up, claimed, read back; read and committed.
    assert sum(entry.get("docsExamined", 0) for entry in profiles) <= 5 * 50 + MOST_DOCUMENTS


async def test_looking_at_a_topic_reads_no_documents(desk: Desk, database: str) -> None:
    await fill(desk, 100)
    with profiled(database) as profiles:
        await desk.info()
        await desk.engine.next_due("t")
        await desk.engine.list_topics(10, 0)
    assert sum(entry["docsExamined"] for entry in profiles) <= MOST_DOCUMENTS
    (names,) = [e for e in profiles if e["command"].get("pipeline", [{}])[0] == {"$group": {"_id": "$topic"}}]
    assert names["keysExamined"] <= 2 * 3
