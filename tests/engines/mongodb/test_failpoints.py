"""Every operation of the engine, while one command of the database fails in one of many ways.

On a replica set whose member fails as it is told to. What fails once is made good or answered with 503, and
never with 500; no failure strands a claim, does anything twice or denies what was done. One failure of each
kind is tried where a claim or a commit is at stake, and elsewhere two of them that change from operation to
operation; every one with `RATUS_TEST_FAILPOINTS=all`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Any

import pytest
from pymongo import common
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import Conflict, RatusError, ServiceUnavailable
from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, Rare, RetryPolicy, TaskRecord
from ratus.core.selection import Selection
from ratus.core.turns import Limits, PerLabel, Rate
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, Harness
from ratus.testing import START
from tests.absent import absent
from tests.engines.mongodb import servers
from tests.engines.mongodb.failpoints import (
    COMMANDS,
    ENABLED,
    FAILURES,
    ONE_OF_EACH,
    WRITES,
    Failpoint,
    Failure,
)

pytestmark = pytest.mark.anyio

NONCE = "N" * 16
LATER = START + 24 * HOUR


@pytest.fixture(scope="module")
def member() -> Iterator[str]:
    """The address of a replica set of one member, which fails as it is told to."""
    if servers.mongod() is None:
        absent(servers.ABSENT)
    members = servers.ReplicaSet(*ENABLED, "--setParameter", "ttlMonitorEnabled=false", members=1)
    yield members.primary().address
    members.remove()


@pytest.fixture
def failpoint(member: str) -> Iterator[Failpoint]:
    made = Failpoint(member)
    yield made
    made.close()


@pytest.fixture
async def harness(member: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Harness]:
    # After an error the driver looks at a member again, but not before half a second has passed: in these
    # tests nearly all of the time.
    monkeypatch.setattr(common, "MIN_HEARTBEAT_INTERVAL", 0.01)
    harness = Harness(partial(MongodbEngine, f"mongodb://{member}/?replicaSet=ratus", database="failing"))
    harness.engine = await harness.start()
    await harness.engine.delete_topics()
    yield harness
    await harness.end()


async def fill(harness: Harness) -> None:
    """Tasks in every state for the operations below."""
    policy = RetryPolicy(max_attempts=5)
    active = {"state": ACTIVE, "nonce": NONCE, "attempts": 1, "deadline": harness.now + HOUR, "retry": policy}
    await harness.insert(
        *(harness.task(f"due {n}") for n in range(8)),
        *(harness.task(f"mine {n}", "mine", **active) for n in range(4)),
        *(harness.task(f"lapsed {n}", "lapsed", **{**active, "deadline": harness.now}) for n in range(3)),
        *(harness.task(f"expired {n}", "expired", expires=harness.now) for n in range(3)),
        *(harness.task(f"old {n}", "old", state=COMPLETED, committed=harness.now - HOUR) for n in range(3)),
        *(harness.task(f"any {n}", "any") for n in range(3)),
        harness.task("later", "later", scheduled=LATER),
    )


async def poll(harness: Harness, *topics: str, limit: int = 1) -> list[str]:
    selection = Selection(topics or ("t",), harness.now + HOUR, "me", limit)
    tasks = await harness.engine.claim(selection, harness.now)
    assert all(task.state == ACTIVE and len(task.nonce) == 16 for task in tasks)
    return [task.id for task in tasks]


async def polls(harness: Harness) -> list[str]:
    """More than are carried out one by one. Where one fails, what the others got is released."""
    selection = Selection(("t",), harness.now + HOUR, "me")
    answers = await asyncio.gather(
        *(harness.engine.claim(selection, harness.now) for _ in range(6)), return_exceptions=True
    )
    errors = [answer for answer in answers if isinstance(answer, BaseException)]
    tasks = [task for answer in answers if not isinstance(answer, BaseException) for task in answer]
    if errors:
        for task in tasks:
            await harness.engine.release(task.id, harness.now, task.nonce)
        raise errors[0]
    return sorted(task.id for task in tasks)


async def commits(harness: Harness, *ids: str, **members: Any) -> list[tuple[str, int, str]]:
    answers = await harness.engine.commit([CommitRecord(n, NONCE, **members) for n in ids], harness.now)
    for answer in answers:
        if isinstance(answer, RatusError):
            raise answer
    return [(task.id, task.state, task.nonce) for task in answers if isinstance(task, TaskRecord)]


async def seen(answer: Awaitable[TaskRecord | None]) -> tuple[str, int] | None:
    task = await answer
    return None if task is None else (task.id, task.attempts)


Operation = Callable[[Harness], Awaitable[object]]

OPERATIONS: dict[str, tuple[Operation, object]] = {
    "insert one": (lambda d: d.insert(d.task("new")), [True]),
    "insert many": (lambda d: d.insert(*(d.task(n) for n in ("new", "due 1", "newer"))), [True, False, True]),
    "upsert one": (lambda d: d.upsert(d.task("new")), [True]),
    "upsert many": (lambda d: d.upsert(d.task("due 1"), d.task("new")), [False, True]),
    "get": (lambda d: seen(d.engine.get("mine 0")), ("mine 0", 1)),
    "list tasks": (lambda d: d.ids("any", limit=2), ["any 0", "any 1", "any 2"]),
    "delete task": (lambda d: d.engine.delete_task("any 0"), True),
    "delete tasks": (lambda d: d.engine.delete_tasks("any"), 3),
    "commit": (lambda d: commits(d, "mine 0"), [("mine 0", COMPLETED, "")]),
    "commit a failure": (lambda d: commits(d, "mine 0", error="boom"), [("mine 0", PENDING, "")]),
    "give back": (lambda d: commits(d, "mine 0", state=PENDING), [("mine 0", PENDING, "")]),
    "commit many": (
        lambda d: commits(d, "mine 0", "mine 1", "mine 2"),
        [(f"mine {n}", COMPLETED, "") for n in range(3)],
    ),
    "commit many failures": (
        lambda d: commits(d, "mine 0", "mine 1", error="boom"),
        [(f"mine {n}", PENDING, "") for n in range(2)],
    ),
    "claim": (poll, ["due 0"]),
    "claim many": (lambda d: poll(d, limit=5), [f"due {n}" for n in range(5)]),
    "claims of many": (polls, [f"due {n}" for n in range(6)]),
    "claim what lapsed": (lambda d: poll(d, "lapsed"), ["lapsed 0"]),
    "claim where some expired": (lambda d: poll(d, "expired", "t"), ["due 0"]),
    "claim by id": (lambda d: seen(d.claim_task("due 3")), ("due 3", 1)),
    "claim by force": (lambda d: seen(d.claim_task("mine 3", force=True)), ("mine 3", 2)),
    "extend": (lambda d: seen(d.engine.extend("mine 0", NONCE, d.now + 2 * HOUR, d.now)), ("mine 0", 1)),
    "release": (lambda d: d.engine.release("mine 0", d.now, NONCE), True),
    "release topic": (lambda d: d.engine.release_topic("mine", d.now), 4),
    "next due": (lambda d: d.engine.next_due("later", d.now), LATER),
    "list topics": (
        lambda d: d.engine.list_topics(100, 0),
        ["any", "expired", "lapsed", "later", "mine", "old", "t"],
    ),
    "get topic": (lambda d: counts(d, "mine"), (0, 4, 0, 0)),
    "survey": (lambda d: surveyed(d), 7),
    "pause": (lambda d: d.engine.set_paused("any", True), None),
    "delete topic": (lambda d: d.engine.delete_topic("any"), 3),
    "delete everything": (lambda d: d.engine.delete_topics(), 25),
    "recover": (lambda d: d.engine.recover(d.now), 3),
    "expire": (lambda d: d.engine.expire(d.now), 3),
    "purge": (lambda d: d.engine.purge(d.now - MINUTE), 3),
    "maintain": (lambda d: d.engine.maintain(d.now), None),
}


async def counts(harness: Harness, topic: str) -> object:
    info = await harness.engine.get_topic(topic, harness.now)
    return None if info is None else info.counts


async def surveyed(harness: Harness) -> int:
    found: list[object] = []
    await harness.engine.survey(harness.now, found.append)
    return len(found)


# What has to be right whatever fails once on the way of a write: a consumer would lose its claim or its work.
CERTAIN = [
    *(name for name in OPERATIONS if name.startswith(("commit", "give back"))),
    *("claim", "claim many", "claims of many"),
]


def chosen(name: str, command: str) -> list[Failure]:
    """The failures that are tried with a command of an operation."""
    fitting = [each for each in FAILURES if command in WRITES or "writeConcernError" not in each.data]
    if os.environ.get("RATUS_TEST_FAILPOINTS"):
        return fitting
    some = [each for each in fitting if each.name in ONE_OF_EACH]
    if name in CERTAIN and command in WRITES:
        return some
    first = list(OPERATIONS).index(name)
    return [some[(first + n) % len(some)] for n in range(2)]


@pytest.mark.parametrize("name", OPERATIONS)
async def test_what_fails_once(harness: Harness, failpoint: Failpoint, name: str) -> None:
    """Each command that the operation sends, in each way: the right answer, or 503 and then the right one."""
    operation, right = OPERATIONS[name]
    await fill(harness)
    harness.now += SECOND
    before = failpoint.counts()
    assert await operation(harness) == right
    sent = [command for command, count in failpoint.counts().items() if count > before[command]]
    for command in sent:
        for failure in chosen(name, command):
            await harness.engine.delete_topics()
            await fill(harness)
            harness.now += SECOND  # what was read of the topics is read again
            where = f"{name}, {command}, {failure.name}"
            unavailable = False
            with failpoint.failing(command, failure):
                try:
                    answer: object = await operation(harness)
                except ServiceUnavailable:
                    unavailable = True
            if not failpoint.hits:
                break  # it was sent by the engine beside the operation
            if not unavailable:
                assert answer == right, where
                continue
            assert name not in CERTAIN or command not in WRITES, f"{where}: not made good"
            again = await operation(harness)
            if name.startswith(("get", "list", "commit", "give back", "extend", "next", "survey")):
                assert again == right, where


@pytest.mark.parametrize("name", ["commit", "commit a failure", "give back", "commit many"])
async def test_a_commit_whose_answer_stays_away_is_not_refused_when_it_is_repeated(
    harness: Harness, failpoint: Failpoint, name: str
) -> None:
    """It was applied, and the nonce is gone: the client that tries again must not hear of a conflict."""
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    operation, right = OPERATIONS[name]
    failure = next(failure for failure in FAILURES if failure.name == "write concern 91 with a label")
    for command in ("findAndModify", "update"):
        await harness.engine.delete_topics()
        await fill(harness)
        engine._deployment.limit = 1.5
        with failpoint.failing(command, failure, times=None):
            try:
                await operation(harness)
            except ServiceUnavailable:
                harness.now += SECOND
        engine._deployment.limit = 9.5
        if failpoint.hits:
            assert await operation(harness) == right
            # Once it was answered it is like any other: its nonce is used up.
            with pytest.raises(Conflict):
                await operation(harness)


@pytest.mark.parametrize(
    "name", [name for name in OPERATIONS if name.startswith("claim ") or name == "claim"]
)
async def test_a_claim_whose_answer_stays_away_is_given_back(
    harness: Harness, failpoint: Failpoint, name: str
) -> None:
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    operation, _ = OPERATIONS[name]
    failure = next(failure for failure in FAILURES if failure.name == "write concern 91 with a label")
    for command in ("findAndModify", "update"):
        await harness.engine.delete_topics()
        await fill(harness)
        harness.now += SECOND
        engine._deployment.limit = 1.5
        refused = False
        with failpoint.failing(command, failure, times=None):
            try:
                await operation(harness)
            except ServiceUnavailable:
                refused = True
        engine._deployment.limit = 9.5
        if not refused:  # it does not send this command
            continue
        # The claims under `NONCE` are of others.
        async with asyncio.timeout(30):
            while await mine(harness):
                await asyncio.sleep(0.05)


@pytest.mark.parametrize("command", ["findAndModify", "update"])
async def test_of_claims_made_together_those_whose_answer_stays_away_are_given_back(
    harness: Harness, failpoint: Failpoint, command: str
) -> None:
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    failure = next(failure for failure in FAILURES if failure.name == "write concern 91 with a label")
    await fill(harness)
    engine._deployment.limit = 1.5
    selection = Selection(("t",), harness.now + HOUR, "me")
    with failpoint.failing(command, failure, times=None):
        answers = await asyncio.gather(
            *(engine.claim(selection, harness.now) for _ in range(6)), return_exceptions=True
        )
    engine._deployment.limit = 9.5
    assert any(isinstance(answer, ServiceUnavailable) for answer in answers)
    answered = sorted(
        task.id for answer in answers if not isinstance(answer, BaseException) for task in answer
    )
    async with asyncio.timeout(30):
        while sorted(await mine(harness)) != answered:
            await asyncio.sleep(0.05)


async def mine(harness: Harness) -> list[str]:
    """The tasks that were claimed by an operation of this test."""
    found = []
    for topic in ("t", "lapsed", "mine"):
        page = await harness.page(topic, state=ACTIVE)
        found += [task.id for task in page.tasks if task.nonce != NONCE]
    return found


@pytest.mark.parametrize(
    "failure", [each for each in FAILURES if each.name in ONE_OF_EACH], ids=lambda failure: failure.name
)
async def test_under_limits_no_place_is_lost_and_none_is_given_twice(
    harness: Harness, failpoint: Failpoint, failure: Failure
) -> None:
    """Each command of claims and commits fails once and twice, in each way, wherever it stands among them."""
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    await harness.insert(
        *(harness.task(f"{n:02}", rare=Rare(labels=b'{"customer":"%d"}' % (n % 2))) for n in range(60))
    )
    per = PerLabel("customer", concurrency=1, rate=Rate(1000, SECOND, 1000))
    await engine.change_settings("t", limits=Limits(concurrency=2, per=per))
    for command in COMMANDS:
        for times in (1, 2):
            with failpoint.failing(command, failure, times), contextlib.suppress(RatusError):
                for task in await harness.claim(limit=2):
                    assert len(await mine(harness)) <= 2
                    await engine.commit([CommitRecord(task.id, task.nonce)], harness.now)
            assert len(await mine(harness)) <= 2, command
            await engine.release_topic("t", harness.now)
    async with asyncio.timeout(30):
        while await mine(harness) or engine._lost:  # claims whose answer was lost are looked for
            await engine.release_topic("t", harness.now)
            await asyncio.sleep(0.05)
    engine._lanes.grace = 0
    await engine.maintain(harness.now)
    assert len(await harness.claim(limit=9)) == 2
    assert await harness.claim(limit=9) == []
