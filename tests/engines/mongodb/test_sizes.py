"""Tasks at the limit of what MongoDB can store: each refusal is its own, and what is stored can be used."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from ratus_engines.mongodb.documents import MAX_DOCUMENT, encoded

from ratus.core.errors import BadRequest, Conflict, InternalError, NotFound, PayloadTooLarge, RatusError
from ratus.core.records import ACTIVE, ARCHIVED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.engine.testkit.harness import HOUR, Harness
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Fate, Proxy, name_of

pytestmark = pytest.mark.anyio

# More than half of what MongoDB can store.
HALF = b'"' + b"x" * (9 * 1024 * 1024) + b'"'
NONCE = "N" * 16
MOST = 16 * 1024 * 1024


def claimed(harness: Harness, task_id: str, **members: Any) -> TaskRecord:
    members = {"state": ACTIVE, "nonce": NONCE, "deadline": harness.now + HOUR, "attempts": 1, **members}
    return harness.task(task_id, **members)


def text(size: int) -> bytes:
    return b'"' + b"x" * size + b'"'


def stored_size(database: str, task_id: str) -> int:
    found = servers.shared_client()[database].tasks.find_one({"_id": task_id})
    assert found is not None
    return len(bson.encode(found))


def room_in(task: TaskRecord) -> int:
    """Bytes that the task can be larger by, once it has its place in the order of creation."""
    task.sequence = 2**60
    return MAX_DOCUMENT - len(encoded(task).raw)


async def test_every_refusal_in_a_batch_is_its_own(harness: Harness) -> None:
    """Under a nonce and by force, alone and several to one task: each is answered in its place."""
    ids = ["0", "1", "2", "3", "4", "5"]
    await harness.insert(
        *(claimed(harness, each, payload=HALF if each in {"1", "4"} else None) for each in ids)
    )
    commits = [
        CommitRecord("0", NONCE),
        CommitRecord("1", NONCE, result=HALF),
        CommitRecord("2", NONCE, result=b"[9223372036854775808]"),
        CommitRecord("3", "another"),
        CommitRecord("absent", NONCE),
        CommitRecord("4", result=HALF),
        CommitRecord("4", result=b"-" + b"9" * 4_300),
        CommitRecord("4", result=b"2"),
        CommitRecord("5", NONCE, payload=b"1", result=HALF),
    ]
    answers = await harness.engine.commit(commits, harness.now)
    assert [type(answer) for answer in answers] == [
        TaskRecord,
        PayloadTooLarge,
        BadRequest,
        Conflict,
        NotFound,
        PayloadTooLarge,
        BadRequest,
        TaskRecord,
        TaskRecord,
    ]
    for each in ("1", "2", "3"):
        assert (await harness.get(each)).nonce == NONCE


async def test_what_the_database_refuses_of_a_batch_is_refused_alone(harness: Harness, database: str) -> None:
    """Whatever the reason is: here, that the operator allows no other topic."""
    await harness.insert(*(claimed(harness, each) for each in ("0", "1", "2")))
    data = servers.shared_client()[database]
    data.command("collMod", "tasks", validator={"topic": "t"})
    try:
        commits = [CommitRecord(each, NONCE, topic="u" if each == "1" else "") for each in ("0", "1", "2")]
        answers = await harness.engine.commit(commits, harness.now)
    finally:
        data.command("collMod", "tasks", validator={})
    assert [type(answer) for answer in answers] == [TaskRecord, InternalError, TaskRecord]
    assert (await harness.get("1")).nonce == NONCE


async def test_the_largest_task_goes_through_everything(harness: Harness, database: str) -> None:
    """A task leaves room for what the server adds to it: a claim, an error, an outcome."""
    room = room_in(harness.task("0", payload=text(0), retry=RetryPolicy(max_attempts=2)))
    largest = harness.task("0", payload=text(room), retry=RetryPolicy(max_attempts=2))
    with pytest.raises(PayloadTooLarge):
        await harness.insert(harness.task("1", payload=text(room + 1), retry=RetryPolicy(max_attempts=2)))
    assert await harness.insert(largest) == [True]
    assert await harness.upsert(largest) == [False]
    assert await harness.upsert(largest, harness.task("1", payload=b"1")) == [False, True]
    task = (await harness.claim(consumer="c" * 1_000))[0]
    await harness.fail("0", task.nonce, error="e" * 8_192)
    harness.now += HOUR
    claimed = await harness.claim(limit=2, consumer="c" * 1_000)
    assert {each.id for each in claimed} == {"0", "1"}
    harness.now += HOUR
    assert await harness.engine.recover(harness.now) == 2
    assert (await harness.get("0")).outcome == "failed"
    assert (await harness.commit("0", state=PENDING)).payload == largest.payload
    assert await harness.engine.delete_task("0") is True


@pytest.mark.parametrize("several", [False, True])
async def test_a_task_stays_claimable_after_a_commit(harness: Harness, several: bool) -> None:
    """A commit back to pending must not take the room that a claim needs."""
    ids = ["0", "1"] if several else ["0"]
    await harness.insert(*(claimed(harness, each) for each in ids))
    size = room_in(claimed(harness, "0", payload=text(0))) + MOST - MAX_DOCUMENT - 100
    answers = await harness.engine.commit(
        [
            CommitRecord(each, NONCE, state=PENDING, payload=text(size) if each == "0" else b"1")
            for each in ids
        ],
        harness.now,
    )
    assert isinstance(answers[0], PayloadTooLarge)
    assert not any(isinstance(answer, RatusError) for answer in answers[1:])


async def test_a_claim_that_left_no_room_lapses_all_the_same(harness: Harness, database: str) -> None:
    """The consumer's name filled the document, so that the error of the lapse has no room beside it."""
    size = room_in(harness.task("0", payload=text(0), retry=RetryPolicy(max_attempts=1)))
    for each in ("0", "1"):
        await harness.add(
            each, payload=text(size) if each == "0" else b"1", retry=RetryPolicy(max_attempts=1)
        )
    await harness.claim_task("0", consumer="c")
    consumer = "c" * (MOST - stored_size(database, "0") + 1)
    assert await harness.engine.release("0", harness.now) is True
    await harness.claim_task("0", consumer=consumer)
    await harness.claim_task("1", consumer=consumer)
    assert stored_size(database, "0") == MOST
    harness.now += HOUR
    assert await harness.engine.recover(harness.now) == 2
    first, second = await harness.get("0"), await harness.get("1")
    for task in (first, second):
        assert (task.state, task.outcome, task.error) == (ARCHIVED, "failed", "deadline exceeded")
    assert (first.consumer, second.consumer) == ("", consumer)


async def test_a_batch_refused_in_part_for_what_passes_is_tried_one_by_one(
    proxied: Harness, between: Proxy
) -> None:
    """One is refused for its size, another because the member steps down: the rest is not affected."""
    refused = False

    def rule(command: dict[str, Any]) -> Fate | dict[str, Any]:
        nonlocal refused
        if name_of(command) == "update" and not refused:
            refused = True
            failures = [
                {"index": 0, "code": 17419, "errmsg": "too large"},
                {"index": 1, "code": 10107, "errmsg": "not primary"},
            ]
            return {"ok": 1.0, "n": 0, "nModified": 0, "writeErrors": failures}
        return Fate.PASS

    await proxied.insert(*(claimed(proxied, each) for each in ("0", "1", "2")))
    between.rule = rule
    answers = await proxied.engine.commit(
        [CommitRecord(each, NONCE) for each in ("0", "1", "2")], proxied.now
    )
    assert refused
    assert [type(answer) for answer in answers] == [TaskRecord] * 3
