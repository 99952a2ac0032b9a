"""Turns and limits where MongoDB matters: several servers, crashes, lost answers, old documents."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable
from functools import partial
from random import Random
from typing import Any

import pytest
from ratus_engines.mongodb.documents import record
from ratus_engines.mongodb.engine import MongodbEngine
from ratus_engines.mongodb.labels import keys_of, lane_key

from ratus.core.errors import Closed, RatusError
from ratus.core.labels import first_value
from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, Rare, TaskRecord
from ratus.core.selection import Selection
from ratus.core.turns import Closing, Limits, PerLabel, Rate, Reason
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness, RecordingListener
from ratus.engine.testkit.machine import RandomMachine
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Command, Fate, Proxy, name_of, times

pytestmark = pytest.mark.anyio


@pytest.fixture
async def other(harness: Harness) -> MongodbEngine:
    """Another server on the same data."""
    made = await harness.start()
    assert isinstance(made, MongodbEngine)
    return made


def engine_of(harness: Harness) -> MongodbEngine:
    assert isinstance(harness.engine, MongodbEngine)
    return harness.engine


def data(database: str) -> Any:
    return servers.shared_client()[database]


async def add(harness: Harness, *ids: str, **members: Any) -> None:
    """Insert tasks; the customer is the first letter of the id."""
    await harness.insert(
        *(
            harness.task(name, rare=Rare(labels=b'{"customer":"%s"}' % name[0].encode()), **members)
            for name in ids
        )
    )


async def limit(harness: Harness, **limits: Any) -> None:
    await harness.engine.change_settings("t", limits=Limits(**limits))


async def claim(engine: MongodbEngine, harness: Harness, **chosen: Any) -> list[TaskRecord]:
    selection = Selection(("t",), harness.now + HOUR, **chosen)
    return await engine.claim(selection, harness.now)


# ---- several servers ---------------------------------------------------------------------------------


async def test_a_limit_that_was_set_is_in_force_on_every_server(
    harness: Harness, other: MongodbEngine
) -> None:
    await add(harness, "a1", "a2", "a3", "b1")
    assert len(await claim(other, harness)) == 1
    await limit(harness, per=PerLabel("customer", concurrency=1))
    assert [task.id for task in await claim(other, harness, limit=9)] == ["b1"]
    assert await harness.claim(limit=9) == []
    await harness.engine.change_settings("t", limits=None)
    assert len(await claim(other, harness, limit=9)) == 2


async def test_a_label_that_came_into_use_is_in_use_on_every_server(
    harness: Harness, other: MongodbEngine
) -> None:
    await add(harness, "a1", "a2")
    await harness.engine.list_lanes("t", "customer", None, 9, harness.now)
    await other.insert(
        [harness.task("-1"), harness.task("c1", rare=Rare(labels=b'{"customer":"c"}'))], harness.now
    )
    lanes = await harness.engine.list_lanes("t", "customer", None, 9, harness.now)
    assert [lane.value for lane in lanes] == ["a", "c", None]
    await other.delete_task("c1")
    assert (await harness.info()).lanes == 2


async def test_no_limit_is_exceeded_by_two_servers_and_no_place_is_lost(
    harness: Harness, other: MongodbEngine
) -> None:
    """Eight consumers, which also give back and let claims lapse; at the end every place can be taken."""
    await add(harness, *(f"{customer}{n}" for n in range(40) for customer in "abc"))
    await limit(harness, concurrency=4, per=PerLabel("customer", concurrency=2))
    active: dict[str, str] = {}
    most = 0
    served: list[str] = []

    async def consume(number: int) -> None:
        nonlocal most
        engine = (engine_of(harness), other)[number % 2]
        idle = 0
        while idle < 5:
            tasks = await claim(engine, harness, limit=1 + number % 2)
            idle = 0 if tasks else idle + 1
            for task in tasks:
                active[task.id] = task.id[0]
                most = max(most, len(active))
                assert len(active) <= 4
                assert sum(customer == task.id[0] for customer in active.values()) <= 2
            for task in tasks:
                await asyncio.sleep(0)
                del active[task.id]
                if number == 0 and task.attempts == 1:
                    assert await engine.release(task.id, harness.now, task.nonce)
                else:
                    served.append(task.id)
                    (answer,) = await engine.commit([CommitRecord(task.id, task.nonce)], harness.now)
                    assert isinstance(answer, TaskRecord), answer

    await asyncio.gather(*map(consume, range(8)))
    assert len(served) == len(set(served)) == 120
    assert most > 1
    await add(harness, *(f"{customer}{n}" for n in range(100, 105) for customer in "abc"))
    assert len(await harness.claim(limit=99)) == 4


async def test_a_rate_is_kept_by_two_servers(harness: Harness, other: MongodbEngine) -> None:
    await add(harness, *(f"a{n}" for n in range(20)))
    await limit(harness, rate=Rate(3, 3 * SECOND, 3))

    async def claimed(engine: MongodbEngine) -> int:
        try:
            return len(await claim(engine, harness, limit=9))
        except Closed:
            return 0

    # One that came too late for its task may have used up its part of the rate: fewer, but never more.
    assert 1 <= sum(await asyncio.gather(*map(claimed, (engine_of(harness), other) * 3))) <= 3
    assert await claimed(other) == await claimed(engine_of(harness)) == 0
    harness.now += SECOND
    assert await claimed(other) == 1
    assert await claimed(engine_of(harness)) == 0


async def test_no_rate_closes_for_long_after_the_clock_was_set_back(harness: Harness) -> None:
    await add(harness, "a1", "a2", "a3", "b1")
    await limit(harness, rate=Rate(2, 2 * MINUTE, 2), per=PerLabel("customer", rate=Rate(1, MINUTE)))
    assert await harness.claim_ids() == ["a1", "b1"]
    harness.now -= HOUR
    with pytest.raises(Closed) as caught:
        await harness.claim()
    assert caught.value.reopens <= harness.now + MINUTE
    harness.now += MINUTE
    assert len(await harness.claim(limit=9)) == 1


# ---- the truth ---------------------------------------------------------------------------------------


def check_lanes(database: str) -> None:
    """Assert that the lanes are what follows from the tasks, no more and no less."""
    tasks = [(found, record(found)) for found in data(database).tasks.find()]
    lanes = list(data(database).tasks_lanes.find({"topic": {"$exists": True}}))
    uses = {found["topic"]: found for found in lanes if found.get("use")}
    alive: set[tuple[str, str, str | None]] = set()
    places: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for found, task in tasks:
        use = uses.get(task.topic, {})
        assert set(keys_of(task.labels)) <= set(found.get("keys", ())), found
        for label in use.get("labels", ()):
            value = first_value(task.labels, label)
            if task.state in (PENDING, ACTIVE):
                assert lane_key(label, value) in found["keys"], found
                alive.add((task.topic, label, value))
            if task.state == ACTIVE and use.get("keeps"):
                key = task.topic, lane_key(label, value)
                places.setdefault(key, set()).add((task.id, task.nonce))
        if task.state == ACTIVE and use.get("keeps"):
            places.setdefault((task.topic, ""), set()).add((task.id, task.nonce))
    assert {(each["topic"], each["label"], each.get("value")) for each in lanes if each.get("lives")} == alive
    assert {
        (each["topic"], each["_id"]["key"]): {(place["task"], place["nonce"]) for place in each["places"]}
        for each in lanes
        if each.get("places")
    } == places
    assert all(
        len(each["places"]) == len({p["task"] for p in each["places"]}) for each in lanes if "places" in each
    )


class TruthfulMachine(RandomMachine):
    """Compares the lanes with the tasks after every step."""

    database = ""

    async def _compare(self) -> None:
        await super()._compare()
        check_lanes(self.database)


@pytest.mark.parametrize("seed", range(2))
async def test_lanes_are_what_follows_from_the_tasks(uri: str, database: str, seed: int) -> None:
    machine = TruthfulMachine(partial(MongodbEngine, uri, database=database), Random(seed))
    machine.database = database
    await machine.open()
    try:
        await machine.run(150)
    finally:
        await machine.engine.close(machine.now)


# ---- after a crash -----------------------------------------------------------------------------------


async def test_a_place_that_a_crash_left_is_given_back_once_it_is_old(
    harness: Harness, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server died between the commit and the freeing."""
    await add(harness, "a1", "a2")
    await limit(harness, concurrency=1, per=PerLabel("customer", concurrency=1))
    await harness.claim_one()
    data(database).tasks.update_one({"_id": "a1"}, {"$set": {"state": COMPLETED, "nonce": ""}})
    await harness.engine.maintain(harness.now)
    assert await harness.claim() == []  # it may be that of a claim which is being made
    monkeypatch.setattr(engine_of(harness)._lanes, "grace", 0)
    await harness.engine.maintain(harness.now)
    assert await harness.claim_ids() == ["a2"]
    assert await harness.claim() == []


async def test_a_claim_that_finds_no_place_looks_whether_they_are_taken(
    harness: Harness, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_of(harness)._lanes, "grace", 0)
    await add(harness, "a1", "a2", "a3")
    await limit(harness, concurrency=1)
    await harness.claim_one()
    data(database).tasks.update_one({"_id": "a1"}, {"$set": {"state": COMPLETED, "nonce": ""}})
    assert await harness.claim_ids() == ["a2"]


async def test_a_place_taken_for_a_claim_that_was_never_made(
    harness: Harness, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add(harness, "a1")
    await limit(harness, concurrency=1, per=PerLabel("customer", ordered=True))
    lost = {"task": "a1", "nonce": "L" * 16, "at": time.time_ns() // 1_000_000}
    data(database).tasks_lanes.update_many({"topic": "t"}, {"$push": {"places": lost}})
    assert await harness.claim() == []
    monkeypatch.setattr(engine_of(harness)._lanes, "grace", 0)
    await harness.engine.maintain(harness.now)
    assert await harness.claim_ids() == ["a1"]


async def test_active_tasks_without_a_place_get_one(harness: Harness, database: str) -> None:
    """The server died after it had stored a copy."""
    await add(harness, "a1", "a2")
    await limit(harness, concurrency=1)
    tasks = data(database).tasks
    copy = {**tasks.find_one({"_id": "a2"}), "state": ACTIVE, "nonce": "A" * 16, "deadline": None}
    tasks.replace_one({"_id": "a2"}, copy)
    await harness.engine.maintain(harness.now)
    assert await harness.claim() == []
    await harness.commit("a2", "A" * 16)
    assert await harness.claim_ids() == ["a1"]


async def test_a_task_whose_lane_was_not_made(harness: Harness, database: str) -> None:
    """The server died after it had stored the task: a claim finds it in line, and a chore makes the lane."""
    await add(harness, "a1", "a2", "b1", "b2")
    await harness.claim_ids(limit=1, prefer=("customer",))
    data(database).tasks_lanes.delete_many({"label": "customer", "value": "b"})
    await harness.engine.maintain(harness.now)
    assert (await harness.info()).lanes == 2
    data(database).tasks_lanes.delete_many({"label": "customer"})
    assert await harness.claim_ids(prefer=("customer",)) == ["b1", "a2", "b2"]


async def test_a_chore_goes_on_with_lanes_that_were_being_made(harness: Harness, database: str) -> None:
    await add(harness, "a1", "a2", "b1")
    await harness.add("-1")
    lanes = data(database).tasks_lanes
    begun = {"topic": "t", "use": True, "labels": ["customer"], "building": ["customer", ""], "keeps": True}
    lanes.insert_one({"_id": {"topic": "t", "key": ""}, **begun, "beat": 0})
    lanes.update_one({"_id": "uses"}, {"$inc": {"n": 1}}, upsert=True)
    engine_of(harness)._uses._read_at = -math.inf  # as if a tenth of a second had passed
    assert await harness.claim_ids(limit=1, prefer=("customer",)) == ["a1"]  # in line
    await harness.engine.maintain(harness.now)
    assert await harness.claim_ids(prefer=("customer",)) == ["b1", "-1", "a2"]
    assert lanes.find_one({"_id.key": ""})["building"] == []


async def test_lanes_without_tasks_go_with_their_times(harness: Harness, database: str) -> None:
    await limit(harness, per=PerLabel("customer", rate=Rate(1, MINUTE)))
    for number in range(20):
        await harness.insert(harness.task(f"{number}", rare=Rare(labels=b'{"customer":%d}' % number)))
        task = await harness.claim_one()
        await harness.commit(task.id, task.nonce)
    count = partial(data(database).tasks_lanes.count_documents, {"label": "customer"})
    assert count() == 20
    await harness.engine.maintain(harness.now)
    assert count() == 20
    harness.now += MINUTE
    await harness.engine.maintain(harness.now)
    assert count() == 0


async def test_a_topic_that_nothing_is_known_of_is_not_remembered(harness: Harness, database: str) -> None:
    assert await harness.claim("none", prefer=("customer",)) == []
    assert await harness.engine.list_lanes("none", "customer", None, 9, harness.now) == []
    assert data(database).tasks_lanes.count_documents({}) == 0


# ---- lost answers ------------------------------------------------------------------------------------

LOST: dict[str, Callable[[Command], bool]] = {
    "findAndModify": lambda command: name_of(command) == "findAndModify",
    "update": lambda command: name_of(command) == "update",
}


@pytest.mark.parametrize("fate", [Fate.LOSE, Fate.CUT])
@pytest.mark.parametrize("command", LOST)
async def test_no_place_is_lost_with_an_answer(
    proxied: Harness, between: Proxy, command: str, fate: Fate, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever step of claiming and committing loses its answer, two places stay two places."""
    harness = proxied
    await add(harness, *(f"a{n}" for n in range(30)))
    await limit(harness, concurrency=2, per=PerLabel("customer", concurrency=2))
    for number in range(6):
        between.rule = times(1, _nth(LOST[command], number), fate)
        try:
            for task in await harness.claim(limit=2):
                await harness.commit(task.id, task.nonce)
        except RatusError:
            pass
        assert (await harness.info()).counts[ACTIVE] <= 2
    between.rule = lambda command: Fate.PASS
    async with asyncio.timeout(30):  # claims whose answer was lost are given back
        while engine_of(harness)._lost or (await harness.info()).counts[ACTIVE]:
            await harness.engine.release_topic("t", harness.now)
            await asyncio.sleep(0.05)
            if not (await harness.info()).counts[ACTIVE]:
                break
    monkeypatch.setattr(engine_of(harness)._lanes, "grace", 0)
    await harness.engine.maintain(harness.now)
    assert len(await harness.claim(limit=9)) == 2


def _nth(matches: Callable[[Command], bool], number: int) -> Callable[[Command], bool]:
    """Matches from the ``number``-th command on that matches."""
    seen = 0

    def check(command: Command) -> bool:
        nonlocal seen
        if not matches(command):
            return False
        seen += 1
        return seen > number

    return check


async def test_a_caller_that_goes_away_leaves_no_place(harness: Harness) -> None:
    await add(harness, *(f"a{n}" for n in range(30)))
    await limit(harness, concurrency=2, per=PerLabel("customer", concurrency=2))
    for steps in range(0, 60, 3):
        going = asyncio.ensure_future(harness.claim())
        for _ in range(steps):
            await asyncio.sleep(0)
        going.cancel()
        await asyncio.gather(going, return_exceptions=True)
        if not going.cancelled():
            for task in going.result():
                await harness.commit(task.id, task.nonce)
    engine_of(harness)._lanes.grace = 0
    async with asyncio.timeout(30):
        while len(tasks := await harness.claim(limit=9)) < 2:
            for task in tasks:
                await harness.commit(task.id, task.nonce)
            await asyncio.sleep(0.05)
            await harness.engine.maintain(harness.now)


# ---- documents ---------------------------------------------------------------------------------------


async def test_documents_of_a_version_before_have_no_labels(harness: Harness, database: str) -> None:
    await add(harness, "a1")
    data(database).tasks.insert_one({"_id": "old", "topic": "t", "state": 0, "nonce": "", "priority": 0})
    data(database).tasks.update_one(
        {"_id": "old"}, {"$set": {"scheduled": data(database).tasks.find_one({"_id": "a1"})["scheduled"]}}
    )
    lanes = await harness.engine.list_lanes("t", "customer", None, 9, harness.now)
    assert [(lane.value, lane.pending) for lane in lanes] == [("a", 1), (None, 1)]
    assert sorted(await harness.claim_ids(prefer=("customer",))) == ["a1", "old"]


async def test_tasks_without_labels_are_in_no_index_of_labels(harness: Harness, database: str) -> None:
    await harness.add("1", "2")
    await add(harness, "a1")
    assert "keys" not in data(database).tasks.find_one({"_id": "1"})
    assert data(database).tasks.find_one({"_id": "a1"})["keys"] == ["customer=a"]


# ---- notifications -----------------------------------------------------------------------------------


async def test_a_freed_place_is_heard_of_by_other_servers(
    replica_set: servers.ReplicaSet, database: str
) -> None:
    harness = Harness(partial(MongodbEngine, replica_set.uri, database=database))
    harness.engine = await harness.start()
    await harness.engine.delete_topics()
    other = await harness.start()
    assert isinstance(other, MongodbEngine)
    other.listener = listener = RecordingListener()
    await add(harness, "a1", "a2")
    await limit(harness, concurrency=1)
    task = await harness.claim_one()
    assert await claim(other, harness) == []
    gaps = listener.gaps
    async with asyncio.timeout(60):  # until the stream of lanes is open
        while not other._watcher.following_lanes.is_set():
            await asyncio.sleep(0.01)
    assert listener.gaps > gaps or listener.gaps
    listener.topics.clear()
    await harness.commit(task.id, task.nonce)
    async with asyncio.timeout(60):
        while "t" not in listener.topics:
            await asyncio.sleep(0.01)
    assert [task.id for task in await claim(other, harness)] == ["a2"]
    await harness.end()


async def test_what_is_shown_of_a_topic_whose_lanes_are_being_made(harness: Harness, database: str) -> None:
    await add(harness, "a1")
    await limit(harness, per=PerLabel("customer", concurrency=1))
    data(database).tasks_lanes.update_one({"_id.key": ""}, {"$set": {"building": ["customer"]}})
    data(database).tasks_lanes.update_one({"_id": "uses"}, {"$inc": {"n": 1}})
    engine_of(harness)._uses._read_at = -math.inf  # as if a tenth of a second had passed
    assert (await harness.info()).closed == Closing(Reason.BUILDING)
    assert await harness.claim() == []
