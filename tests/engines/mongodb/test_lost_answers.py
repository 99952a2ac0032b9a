"""Operations whose answer gets lost: not done twice, and no task is stranded by them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.engine.testkit.harness import HOUR, CountingObserver, Harness
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Command, Fate, Proxy, is_claim, name_of, proxy, times

pytestmark = pytest.mark.anyio


@pytest.fixture(params=["single", "replica set"])
async def place(request: pytest.FixtureRequest, database: str) -> AsyncIterator[tuple[Proxy, Harness]]:
    """A proxy and a harness behind it, on a server without repeated writes and on one that has them."""
    if request.param == "single":
        uri = request.getfixturevalue("uri")
    else:
        members: servers.ReplicaSet = request.getfixturevalue("replica_set")
        uri = f"mongodb://{members.primary().address}/"
    async with proxy(uri) as between:
        harness = Harness(partial(MongodbEngine, between.uri, database=database))
        harness.engine = await harness.start()
        await harness.engine.delete_topics()
        yield between, harness
        between.rule = lambda command: Fate.PASS
        await harness.end()


async def until(condition: Callable[[], object]) -> None:
    """Return once the condition holds; what it waits for comes from another task."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.02)


async def test_a_claim_is_found_again(place: tuple[Proxy, Harness]) -> None:
    between, harness = place
    await harness.add("1", "2")
    between.rule = times(1, is_claim, Fate.LOSE)
    task = await harness.claim_one()
    assert (task.id, task.attempts) == ("1", 1)
    assert (await harness.info()).counts == (1, 1, 0, 0)
    assert (await harness.commit("1", task.nonce)).state == COMPLETED


async def test_many_claims_are_found_again(place: tuple[Proxy, Harness]) -> None:
    between, harness = place
    ids = [str(number) for number in range(20)]
    await harness.add(*ids)
    between.rule = times(1, is_claim, Fate.LOSE)
    tasks = await harness.claim(limit=20)
    assert [task.id for task in tasks] == ids
    assert {task.attempts for task in tasks} == {1}


@pytest.mark.parametrize("force", [False, True])
async def test_a_claim_by_id_is_found_again(place: tuple[Proxy, Harness], force: bool) -> None:
    between, harness = place
    await harness.add("1")
    between.rule = times(1, is_claim, Fate.LOSE)
    task = await harness.claim_task("1", force=force)
    assert task.attempts == 1
    assert (await harness.commit("1", task.nonce)).state == COMPLETED


async def test_a_claim_over_another_is_counted_though_its_answer_was_lost(
    place: tuple[Proxy, Harness],
) -> None:
    between, harness = place
    await harness.add("1")
    await harness.claim_one()
    between.rule = times(1, lambda command: name_of(command) == "findAndModify", Fate.LOSE)
    harness.engine.observer = observer = CountingObserver()
    await harness.claim_task("1", force=True)
    assert observer.events == {("t", "LAPSE"): 1}


async def test_a_claim_that_never_arrived_is_made_again(place: tuple[Proxy, Harness]) -> None:
    between, harness = place
    await harness.add("1", "2")
    between.rule = times(1, is_claim, Fate.CUT)
    assert (await harness.claim_one()).id == "1"
    assert (await harness.info()).counts == (1, 1, 0, 0)


@pytest.mark.parametrize("members", [{}, {"error": "boom"}, {"state": PENDING}])
async def test_a_commit_is_not_refused_because_it_was_made(
    place: tuple[Proxy, Harness], members: dict[str, Any]
) -> None:
    between, harness = place
    await harness.add("1", retry=RetryPolicy(max_attempts=5))
    claimed = await harness.claim_one()
    between.rule = times(1, lambda command: name_of(command) == "findAndModify", Fate.LOSE)
    harness.engine.observer = observer = CountingObserver()
    task = await harness.commit("1", claimed.nonce, **members)
    assert task.state == (COMPLETED if not members else PENDING)
    assert task.nonce == ""
    assert (await harness.get("1")).attempts == (0 if "state" in members else 1)
    assert observer.events == ({("t", "FAILURE"): 1, ("t", "RETRY"): 1} if "error" in members else {})


async def test_a_batch_of_commits_is_certain(place: tuple[Proxy, Harness]) -> None:
    """One of the tasks is somebody else's by now, and all the same each commit has the right answer."""
    _, harness = place
    await harness.add(*map(str, range(5)))
    claimed = await harness.claim(limit=5)
    await harness.engine.release("3", harness.now)
    taken = await harness.claim_task("3")
    answers = await harness.engine.commit([CommitRecord(t.id, t.nonce) for t in claimed], harness.now)
    done = [answer.id for answer in answers if isinstance(answer, TaskRecord)]
    assert done == ["0", "1", "2", "4"]
    assert (await harness.get("3")).nonce == taken.nonce


async def test_a_claim_that_cannot_be_looked_for_is_given_back(proxied: Harness, between: Proxy) -> None:
    """The database goes away with the answer: the caller gets an error, the task must not wait an hour."""
    await proxied.add("1")
    gone = False

    def rule(command: Command) -> Fate:
        nonlocal gone
        if is_claim(command):
            gone = True
            return Fate.LOSE
        return Fate.CUT if gone else Fate.PASS

    between.rule = rule
    engine = proxied.engine
    assert isinstance(engine, MongodbEngine)
    engine._deployment.limit = 1.0
    with pytest.raises(ServiceUnavailable):
        await proxied.claim(timeout=HOUR)
    between.rule = lambda command: Fate.PASS
    assert len(engine._lost) == 1
    await until(lambda: not len(engine._lost))
    task = await proxied.get("1")
    assert (task.state, task.nonce, task.attempts) == (PENDING, "", 0)


async def test_a_caller_that_goes_away_leaves_no_claim_behind(proxied: Harness, between: Proxy) -> None:
    await proxied.add("1")
    arrived = asyncio.Event()

    def rule(command: Command) -> Fate:
        if is_claim(command):
            arrived.set()
        return Fate.PASS

    between.rule = rule
    engine = proxied.engine
    assert isinstance(engine, MongodbEngine)
    claim = asyncio.create_task(proxied.claim(timeout=HOUR))
    await arrived.wait()
    claim.cancel()
    await asyncio.wait([claim])
    if claim.cancelled():
        await until(lambda: not len(engine._lost))
        assert (await proxied.get("1")).state == PENDING
    else:  # the answer had come
        assert claim.result()[0].state == ACTIVE


async def test_an_insert_counts_once(replica_set: servers.ReplicaSet, database: str) -> None:
    async with proxy(f"mongodb://{replica_set.primary().address}/") as between:
        harness = Harness(partial(MongodbEngine, between.uri, database=database))
        harness.engine = await harness.start()
        await harness.engine.delete_topics()
        for ids in (["1"], ["2", "3", "4"]):
            between.rule = times(1, lambda command: name_of(command) == "insert", Fate.LOSE)
            assert await harness.insert(*map(harness.task, ids)) == [True] * len(ids)
        between.rule = times(1, lambda command: name_of(command) == "delete", Fate.LOSE)
        assert await harness.engine.delete_task("1") is True
        await harness.end()
