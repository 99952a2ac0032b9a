"""A Ratus in Go on the same collection: its documents are tasks, its queries find ours."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from bson import Int64
from bson.decimal128 import Decimal128
from bson.objectid import ObjectId
from pymongo import ReturnDocument

from ratus.core.records import (
    ACTIVE,
    COMPLETED,
    DEFAULT_TIMEOUT,
    PENDING,
    CommitRecord,
    RetryPolicy,
    TaskRecord,
)
from ratus.engine.testkit.harness import HOUR, SECOND, Harness, value
from tests.engines.mongodb import servers

pytestmark = pytest.mark.anyio


def date(time: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


def as_go(harness: Harness, task_id: str, **members: Any) -> dict[str, Any]:
    """A document as a Ratus in Go stores a new task."""
    return {
        "_id": task_id,
        "topic": "t",
        "state": PENDING,
        "nonce": "",
        "produced": date(harness.now),
        "scheduled": date(harness.now),
        **members,
    }


def insert(database: str, *documents: dict[str, Any]) -> None:
    servers.shared_client()[database].tasks.insert_many(documents)


def stored(database: str, task_id: str) -> dict[str, Any]:
    found = servers.shared_client()[database].tasks.find_one({"_id": task_id})
    assert found is not None
    return found


async def test_its_tasks_are_ours(harness: Harness, database: str) -> None:
    insert(database, as_go(harness, "1", producer="p", payload={"b": 1.5, "a": [1, "x", None, True]}))
    task = await harness.get("1")
    assert task == TaskRecord(
        "1", "t", harness.now, harness.now, producer="p", payload=b'{"b":1.5,"a":[1,"x",null,true]}'
    )
    assert await harness.ids(producer="p", consumer="", outcome="") == ["1"]
    assert (await harness.info()).counts == (1, 0, 0, 0)
    claimed = await harness.claim_one()
    assert (claimed.id, claimed.attempts, claimed.state) == ("1", 1, ACTIVE)
    done = await harness.commit("1", claimed.nonce, result=b"[2]")
    assert (done.state, done.result) == (COMPLETED, b"[2]")


async def test_its_tasks_in_every_operation(harness: Harness, database: str) -> None:
    insert(database, *(as_go(harness, str(number)) for number in range(8)))
    assert await harness.insert(harness.task("0")) == [False]
    assert await harness.upsert(harness.task("1", producer="p")) == [False]
    assert "sequence" not in stored(database, "1")  # its place is where it was: before all of ours
    one = await harness.claim_task("2")
    assert await harness.engine.release("2", harness.now, one.nonce) is True
    assert (await harness.get("2")).attempts == 0
    assert (await harness.fail("3")).attempts == 0
    assert (await harness.claim_task("4", force=True)).attempts == 1
    many = await harness.claim(limit=2)
    answers = await harness.engine.commit([CommitRecord(task.id, task.nonce) for task in many], harness.now)
    assert [answer.state for answer in answers if isinstance(answer, TaskRecord)] == [COMPLETED] * 2
    assert await harness.engine.delete_task("7") is True


async def test_priority_counts_as_zero_or_last(harness: Harness, database: str) -> None:
    insert(database, as_go(harness, "go"))
    await harness.add("high", priority=1)
    await harness.add("low", priority=-1)
    order = await harness.claim_ids()
    assert order[0] == "high"
    assert set(order) == {"high", "low", "go"}


async def test_what_it_claims_and_completes(harness: Harness, database: str) -> None:
    """With its own queries and hints; then we go on with the task."""
    await harness.add("1", payload=b'{"n": 1}', retry=RetryPolicy(max_attempts=3), error="boom")
    await harness.add("later", scheduled=harness.now + HOUR)
    tasks = servers.shared_client()[database].tasks
    due = {"state": 0, "topic": "t", "scheduled": {"$lte": date(harness.now)}}
    claim = {
        "state": 1,
        "nonce": "G" * 16,
        "consumer": "",
        "consumed": date(harness.now),
        "deadline": date(harness.now + SECOND),
    }
    found = tasks.find_one_and_update(
        due,
        {"$set": claim},
        sort=[("scheduled", 1)],
        hint="topic_1_scheduled_1",
        return_document=ReturnDocument.AFTER,
    )
    assert found is not None
    assert (found["_id"], found["payload"]) == ("1", {"n": 1})
    task = await harness.get("1")
    assert (task.state, task.nonce, task.consumer, task.deadline) == (
        ACTIVE,
        "G" * 16,
        "",
        harness.now + SECOND,
    )
    assert await harness.claim() == []
    harness.now += SECOND
    again = await harness.engine.recover(harness.now)
    assert again == 1
    assert (await harness.get("1")).error == "deadline exceeded"
    tasks.update_one({"_id": "1"}, {"$set": {**claim, "state": 2, "nonce": ""}}, hint="_id_")
    assert (await harness.get("1")).committed is None
    assert await harness.engine.purge(harness.now) == 0
    await harness.engine.maintain(harness.now)
    assert (await harness.get("1")).committed == harness.now
    assert await harness.engine.purge(harness.now) == 1


async def test_what_it_leaves_active_without_an_end_is_made_whole(harness: Harness, database: str) -> None:
    insert(database, as_go(harness, "1", state=1))
    assert await harness.engine.recover(harness.now + 24 * HOUR) == 0
    await harness.engine.maintain(harness.now)
    task = await harness.get("1")
    assert (task.deadline, task.implied) == (harness.now + DEFAULT_TIMEOUT, True)
    assert await harness.engine.recover(harness.now + DEFAULT_TIMEOUT) == 1


async def test_what_is_found_by_what_is_no_time_stays_as_it_is(harness: Harness, database: str) -> None:
    odd = as_go(harness, "odd", state=ACTIVE, deadline=[date(harness.now)])
    insert(database, odd, as_go(harness, "1", state=ACTIVE, deadline=date(harness.now)))
    assert await harness.engine.recover(harness.now) == 1
    assert (await harness.get("1")).state == PENDING
    assert stored(database, "odd")["state"] == ACTIVE


async def test_ours_are_as_it_reads_them(harness: Harness, database: str) -> None:
    """The types that its driver decodes into its fields, and nothing where it expects nothing."""
    await harness.add("1", payload=b'{"big": 9007199254740993, "small": 1, "float": 1.0, "list": []}')
    document = stored(database, "1")
    assert list(document)[:4] == ["_id", "topic", "state", "nonce"]
    assert document["state"] == 0
    assert type(document["state"]) is int
    assert document["nonce"] == ""
    assert isinstance(document["produced"], datetime)
    assert isinstance(document["scheduled"], datetime)
    assert not {"producer", "consumer", "consumed", "deadline", "attempts", "retry", "error"} & set(document)
    assert document["priority"] == 0
    assert isinstance(document["sequence"], Int64)
    payload = document["payload"]
    assert list(payload) == ["big", "small", "float", "list"]
    assert (type(payload["big"]), type(payload["small"]), type(payload["float"])) == (Int64, int, float)
    claimed = (await harness.claim(consumer="me"))[0]
    document = stored(database, "1")
    assert (document["state"], document["nonce"], document["consumer"]) == (1, claimed.nonce, "me")
    assert {type(document[name]) for name in ("consumed", "deadline")} == {datetime}


async def test_types_that_json_does_not_have_become_texts(harness: Harness, database: str) -> None:
    identity = ObjectId()
    insert(
        database,
        as_go(
            harness,
            "1",
            payload={
                "date": date(harness.now),
                "id": identity,
                "decimal": Decimal128("1.5"),
                "nan": float("nan"),
                "bytes": b"ab",
            },
        ),
    )
    assert value((await harness.get("1")).payload) == value(
        b'{"date": "2023-11-14T22:13:20Z", "id": "%s", "decimal": "1.5", "nan": null, "bytes": "YWI="}'
        % str(identity).encode()
    )
    assert await harness.ids() == ["1"]
