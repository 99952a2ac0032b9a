"""What the memory engine promises beyond the contract: order, exact bytes, and no long pauses."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from ratus_engines.memdb import engine as claiming
from ratus_engines.memdb import listing
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.memdb.listing import SLICE

from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, TaskQuery
from ratus.core.selection import Selection
from ratus.testing import START
from tests.engines.memdb.support import MINUTE, opened, task, tasks_of

pytestmark = pytest.mark.anyio

MANY = 3 * SLICE + 100


async def test_lists_are_in_order_of_creation() -> None:
    engine = await opened()
    ids = [str(number * 7919 % 101) for number in range(50)]
    await engine.insert([task(name, state=number % 4) for number, name in enumerate(ids)], START)
    assert [found.id for found in await tasks_of(engine)] == ids
    page = await engine.list_tasks(TaskQuery("t", 100, state=COMPLETED))
    assert [found.id for found in page.tasks] == ids[2::4]


async def test_topics_are_in_order_of_creation() -> None:
    engine = await opened()
    for topic in ("b", "a", "c"):
        await engine.insert([task(f"in {topic}", topic)], START)
    assert await engine.list_topics(10, 0) == ["b", "a", "c"]


async def test_payloads_and_results_are_kept_to_the_byte() -> None:
    engine = await opened()
    text = b' {"b" : 1e2,\n"a":"\\u00e9", "n": 123456789012345678901234567890}'
    await engine.insert([task("1", payload=text)], START)
    await engine.commit([CommitRecord("1", result=text)], START)
    found = await engine.get("1")
    assert found is not None
    assert (found.payload, found.result) == (text, text)


async def test_what_was_due_stays_due_when_the_clock_is_set_back() -> None:
    engine = await opened()
    await engine.insert([task("1"), task("2")], START)
    assert [t.id for t in await engine.claim(Selection(("t",), START, limit=2), START - MINUTE)] == ["1", "2"]


async def test_an_answer_holds_at_least_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claiming, "MAX_PAGE_BYTES", 10)
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", 10)
    engine = await opened()
    await engine.insert([task("1"), task("2")], START)
    page = await engine.list_tasks(TaskQuery("t", 10))
    assert [found.id for found in page.tasks] == ["1"]
    page = await engine.list_tasks(TaskQuery("t", 10, after=page.next))
    assert [found.id for found in page.tasks] == ["2"]
    assert len(await engine.claim(Selection(("t",), START + MINUTE, limit=10), START)) == 1
    assert len(await engine.claim(Selection(("t",), START + MINUTE, limit=10), START)) == 1


LONG: dict[str, tuple[int, Callable[[MemdbEngine], Awaitable[Any]]]] = {
    "delete_tasks": (PENDING, lambda engine: engine.delete_tasks("t")),
    "delete_topic": (PENDING, lambda engine: engine.delete_topic("t")),
    "delete_topics": (PENDING, lambda engine: engine.delete_topics()),
    "release_topic": (ACTIVE, lambda engine: engine.release_topic("t", START)),
    "recover": (ACTIVE, lambda engine: engine.recover(START)),
    "expire": (PENDING, lambda engine: engine.expire(START)),
    "purge": (COMPLETED, lambda engine: engine.purge(START)),
    "list_tasks": (PENDING, lambda engine: engine.list_tasks(TaskQuery("t", 10, producer="nobody"))),
}


@pytest.mark.parametrize("name", LONG)
async def test_long_operations_let_others_in(name: str) -> None:
    state, step = LONG[name]
    engine = await opened()
    members: dict[str, Any] = {"state": state, "deadline": START, "committed": START, "expires": START}
    await engine.insert([task(str(number), **members) for number in range(MANY)], START)
    turns = 0
    work = asyncio.ensure_future(step(engine))
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    await work
    assert turns >= MANY // SLICE


@pytest.mark.parametrize("name", ["delete_tasks", "delete_topic", "delete_topics"])
async def test_what_comes_during_a_deletion_stays(name: str) -> None:
    engine = await opened()
    await engine.insert([task(str(number)) for number in range(MANY)], START)
    work = asyncio.ensure_future(LONG[name][1](engine))
    await asyncio.sleep(0)
    await engine.insert([task("new")], START)
    assert await work == MANY
    assert [found.id for found in await tasks_of(engine)] == ["new"]


async def test_a_claim_made_while_the_others_are_released_is_kept() -> None:
    """Releasing is done once to each claim; a consumer that claims again meanwhile keeps its claim."""
    engine = await opened()
    members: dict[str, Any] = {"state": ACTIVE, "deadline": START + MINUTE}
    await engine.insert([task(str(number), **members) for number in range(MANY)], START)
    work = asyncio.ensure_future(engine.release_topic("t", START))
    await asyncio.sleep(0)
    claims = {}
    while not work.done():
        for claimed in await engine.claim(Selection(("t",), START + MINUTE, "me", 50), START):
            claims[claimed.id] = claimed.nonce
        await asyncio.sleep(0)
    assert await work == MANY
    assert claims
    for task_id, nonce in claims.items():
        found = await engine.get(task_id)
        assert found is not None
        assert (found.state, found.nonce) == (ACTIVE, nonce)


async def test_a_page_shows_each_task_as_it_is_when_it_is_answered() -> None:
    engine = await opened()
    await engine.insert([task(str(number), producer="p") for number in range(MANY)], START)
    last = [task(f"last {number}", producer="rare") for number in range(2)]
    await engine.insert([task("gone", producer="rare"), task("moved", producer="rare"), *last], START)
    await engine.upsert([task("0", producer="rare"), task("1", producer="rare")], START)
    work = asyncio.ensure_future(engine.list_tasks(TaskQuery("t", 100, producer="rare")))
    await asyncio.sleep(0)
    await engine.delete_task("0")
    await engine.delete_task("gone")
    await engine.commit([CommitRecord("1", state=PENDING, topic="other")], START)
    await engine.commit([CommitRecord("moved", state=PENDING, topic="other")], START)
    assert [found.id for found in (await work).tasks] == ["last 0", "last 1"]


async def test_a_page_shows_a_task_that_was_replaced_while_it_was_made() -> None:
    engine = await opened()
    await engine.insert([task(str(number)) for number in range(MANY)], START)
    for name in ("3", "1500"):
        await engine.upsert([task(name, producer="p", payload=b"1")], START)
    listing_tasks = asyncio.ensure_future(engine.list_tasks(TaskQuery("t", 10, producer="p")))
    await asyncio.sleep(0)
    await engine.upsert([task("3", producer="p", payload=b"2")], START)
    page = await listing_tasks
    assert [(found.id, found.payload) for found in page.tasks] == [("3", b"2"), ("1500", b"1")]


async def test_one_claim_over_many_topics_takes_care_of_a_thousand_tasks_a_step() -> None:
    engine = await opened()
    topics = tuple(str(number) for number in range(5))
    for topic in topics:
        expired = [task(f"{topic}-{number}", topic, expires=START) for number in range(400)]
        await engine.insert(expired, START - 1)
    steps = 0

    async def others() -> None:
        nonlocal steps
        while True:
            steps += 1
            await asyncio.sleep(0)

    busy = asyncio.ensure_future(others())
    await asyncio.sleep(0)
    assert await engine.claim(Selection(topics, START + MINUTE), START) == []
    busy.cancel()
    assert steps >= 2


async def test_lists_that_look_at_very_much_do_so_one_after_the_other() -> None:
    engine = await opened()
    await engine.insert([task(str(number)) for number in range(MANY)], START)
    query = TaskQuery("t", 10, producer="nobody")
    lists = [asyncio.ensure_future(engine.list_tasks(query)) for _ in range(5)]
    turns = 0
    while not all(listed.done() for listed in lists):
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 5 * (MANY // SLICE)
