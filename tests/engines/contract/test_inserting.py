"""Insert, upsert and get: what goes in comes out, once, and in its place."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from ratus.core.errors import BadRequest
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    DEFAULT_TIMEOUT,
    FAILED,
    PENDING,
    RetryPolicy,
    TaskRecord,
)
from ratus.core.times import MAX_TIME, MIN_TIME
from tests.engines.contract.desk import HOUR, MINUTE, SECOND, TIMES, Desk, members, value

pytestmark = pytest.mark.anyio

POLICY = RetryPolicy(max_attempts=5, backoff="linear", delay=2 * SECOND, max_delay=HOUR, jitter=0.25)

NAMES = [
    "a",
    "A",
    "a ",
    " a",
    "a\0b",
    "a\0",
    "a/b",
    "a%2Fb",
    "a+b",
    "..",
    "$a",
    "a.b",
    "0",
    "'; DROP TABLE tasks; --",
    "\u00e9",  # as one character, and
    "e\u0301",  # as two
    "\U0001f400",
    "\u202eevil",
    "x" * 1024,
]

VALUES = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "1.0",
    "-0.0",
    "1e300",
    "5e-324",
    "0.1",
    "9007199254740993",
    str(2**63 - 1),
    str(-(2**63)),
    '""',
    '"\\u0000"',
    '"\u00e9 \U0001f400 \\" \\\\ \\n"',
    "[]",
    "{}",
    "[[], {}, [null]]",
    '{"b": 1, "a": {"d": 2, "c": 3}}',
    '{"": 1, "$set": {"a.b": 2}, "a\\u0000b": 3, "_id": 4}',
    '{"$oid": "000000000000000000000000", "$date": 0}',
    "[" * 170 + "]" * 170,
    '{"a":' * 170 + "1" + "}" * 170,
]


def full(desk: Desk) -> TaskRecord:
    """A task with every member set to something other than its default."""
    return TaskRecord(
        id="full",
        topic="t",
        produced=desk.now - 9 * SECOND,
        scheduled=desk.now - 8 * SECOND,
        state=ACTIVE,
        nonce="AAAABBBBCCCCDDDD",
        producer="p",
        consumer="c",
        consumed=desk.now - 7 * SECOND,
        deadline=desk.now + 6 * SECOND,
        committed=desk.now - 5 * SECOND,
        payload=b'{"n":1}',
        priority=-9,
        attempts=3,
        retry=POLICY,
        error="boom",
        result=b"[2]",
        outcome=FAILED,
        expires=desk.now + HOUR,
    )


async def test_what_was_inserted_comes_back(desk: Desk) -> None:
    task = full(desk)
    assert await desk.insert(task) == [True]
    assert members(await desk.get("full")) == members(task)


async def test_what_was_not_given_is_at_its_default(desk: Desk) -> None:
    await desk.add("1")
    assert members(await desk.get("1")) == members(desk.task("1"))


async def test_an_unknown_id_is_none(desk: Desk) -> None:
    assert await desk.engine.get("1") is None


async def test_insert_leaves_existing_ids_alone(desk: Desk) -> None:
    await desk.add("1", producer="first")
    assert await desk.insert(desk.task("1", producer="second"), desk.task("2")) == [False, True]
    assert (await desk.get("1")).producer == "first"
    assert await desk.ids() == ["1", "2"]


async def test_ids_are_one_namespace_over_all_topics(desk: Desk) -> None:
    await desk.add("1", topic="a")
    assert await desk.insert(desk.task("1", "b")) == [False]
    assert (await desk.get("1")).topic == "a"
    assert await desk.topics() == ["a"]


async def test_the_first_of_two_in_a_batch_is_inserted(desk: Desk) -> None:
    tasks = [desk.task("1", "a"), desk.task("1", "b"), desk.task("2"), desk.task("1", "a")]
    assert await desk.insert(*tasks) == [True, False, True, False]
    assert (await desk.get("1")).topic == "a"
    assert (await desk.info("a")).count == 1


async def test_an_empty_batch_is_nothing(desk: Desk) -> None:
    assert await desk.insert() == []
    assert await desk.upsert() == []
    assert await desk.engine.commit([], desk.now) == []
    assert await desk.topics() == []


async def test_upsert_replaces_the_whole_task(desk: Desk) -> None:
    await desk.insert(full(desk))
    assert await desk.upsert(desk.task("full", "other"), desk.task("new")) == [False, True]
    assert members(await desk.get("full")) == members(desk.task("full", "other"))
    assert await desk.ids("other") == ["full"]
    assert await desk.ids("t") == ["new"]


async def test_the_last_of_two_in_a_batch_is_upserted(desk: Desk) -> None:
    await desk.add("old")
    batch = [
        desk.task("old", producer="1"),
        desk.task("new", producer="2"),
        desk.task("old", "other", producer="3"),
        desk.task("new", producer="4"),
    ]
    assert await desk.upsert(*batch) == [False, True, False, False]
    assert [(await desk.get(name)).producer for name in ("old", "new")] == ["3", "4"]
    assert (await desk.info("t")).count == (await desk.info("other")).count == 1


async def test_upsert_takes_a_task_from_its_consumer(desk: Desk) -> None:
    await desk.add("1")
    await desk.claim_one()
    await desk.upsert(desk.task("1"))
    task = await desk.get("1")
    assert (task.state, task.nonce, task.attempts, task.consumer) == (PENDING, "", 0, "")
    assert await desk.claim_ids() == ["1"]


@pytest.mark.parametrize("way", ["insert", "upsert", "replace"])
async def test_an_active_task_without_a_deadline_lapses_after_ten_minutes(desk: Desk, way: str) -> None:
    if way == "replace":
        await desk.add("1")
    task = desk.task("1", state=ACTIVE, nonce="AAAABBBBCCCCDDDD")
    await (desk.insert(task) if way == "insert" else desk.upsert(task))
    assert ((await desk.get("1")).deadline, (await desk.get("1")).implied) == (
        desk.now + DEFAULT_TIMEOUT,
        True,
    )
    desk.now += DEFAULT_TIMEOUT - SECOND
    assert await desk.claim() == []
    desk.now += SECOND
    assert (await desk.claim_one()).implied is False


@pytest.mark.parametrize("way", ["insert", "upsert", "replace"])
async def test_a_completed_task_without_a_commit_is_kept_from_now_on(desk: Desk, way: str) -> None:
    if way == "replace":
        await desk.add("1")
    task = desk.task("1", state=COMPLETED, consumed=desk.now - HOUR)
    await (desk.insert(task) if way == "insert" else desk.upsert(task))
    assert (await desk.get("1")).committed == desk.now
    assert await desk.engine.purge(desk.now - SECOND) == 0
    assert await desk.engine.purge(desk.now) == 1


@pytest.mark.parametrize("state", [PENDING, ARCHIVED])
async def test_other_states_are_whole_as_they_are(desk: Desk, state: int) -> None:
    await desk.add("1", state=state)
    task = await desk.get("1")
    assert (task.deadline, task.implied, task.committed) == (None, False, None)


async def test_names_are_compared_whole(desk: Desk) -> None:
    for name in NAMES:
        assert await desk.insert(desk.task(name, topic=name, producer=name, consumer=name)) == [True], name
    for name in NAMES:
        task = await desk.get(name)
        assert (task.id, task.topic, task.producer, task.consumer) == (name, name, name, name)
        assert await desk.ids(name) == [name]
        assert await desk.ids(name, producer=name) == [name]
        assert (await desk.info(name)).count == 1
    assert await desk.topics() == sorted(NAMES)
    for name in NAMES:
        assert [task.id for task in await desk.claim(name, limit=99)] == [name]
        assert await desk.engine.delete_task(name) is True
        assert await desk.is_gone(name)
    assert await desk.topics() == []


@pytest.mark.parametrize("text", VALUES, ids=lambda text: text[:20])
async def test_payloads_and_results_survive(desk: Desk, text: str) -> None:
    data = text.encode()
    await desk.add("inserted", payload=data, result=data)
    await desk.add("committed", state=ARCHIVED)
    await desk.commit("committed", payload=data, result=data)
    await desk.reopen()
    for name in ("inserted", "committed"):
        task = await desk.get(name)
        assert value(task.payload) == value(data)
        assert value(task.result) == value(data)


async def test_huge_integers_survive_or_are_refused(desk: Desk) -> None:
    data = b'{"n": ' + b"9" * 4300 + b"}"
    try:
        await desk.add("1", payload=data)
    except BadRequest:
        assert await desk.is_gone("1")
    else:
        assert value((await desk.get("1")).payload) == value(data)


async def test_a_large_payload_survives(desk: Desk) -> None:
    data = b'"' + b"x" * (4 * 1024 * 1024 - 2) + b'"'
    await desk.add("1", payload=data)
    assert (await desk.get("1")).payload == data


async def test_no_payload_is_not_null(desk: Desk) -> None:
    await desk.add("nothing")
    await desk.add("null", payload=b"null")
    assert (await desk.get("nothing")).payload is None
    assert (await desk.get("null")).payload == b"null"


@pytest.mark.parametrize("time", [MIN_TIME, -1_000, 0, MAX_TIME - MAX_TIME % 1_000])
async def test_every_time_can_be_kept(desk: Desk, time: int) -> None:
    times: dict[str, Any] = dict.fromkeys(TIMES, time)
    await desk.add("1", state=ARCHIVED, **times)
    task = await desk.get("1")
    assert {name: getattr(task, name) for name in TIMES} == times


async def test_times_are_kept_to_the_engines_precision(desk: Desk) -> None:
    time = desk.now + 123_456
    times: dict[str, Any] = dict.fromkeys(TIMES, time)
    await desk.add("1", state=ARCHIVED, **times)
    task = await desk.get("1")
    for name in TIMES:
        assert abs(getattr(task, name) - time) < desk.engine.traits.precision


@pytest.mark.parametrize(
    "policy",
    [
        RetryPolicy(),
        RetryPolicy(max_attempts=0),
        RetryPolicy(delay=0, max_delay=0, jitter=0.0),
        RetryPolicy(max_attempts=2**31, backoff="constant", delay=1_000, max_delay=MAX_TIME, jitter=1.0),
    ],
)
async def test_retry_policies_survive(desk: Desk, policy: RetryPolicy) -> None:
    await desk.add("1", retry=policy)
    await desk.reopen()
    assert (await desk.get("1")).retry == policy


async def test_a_large_batch(desk: Desk) -> None:
    ids = [f"{n:05}" for n in range(3000)]
    await desk.add(*ids)
    assert await desk.insert(*(desk.task(name) for name in ids)) == [False] * 3000
    assert await desk.upsert(*(desk.task(name, priority=1) for name in ids)) == [False] * 3000
    assert (await desk.info()).counts == (3000, 0, 0, 0)
    assert await desk.claim_ids(limit=3000) == ids


async def test_a_record_handed_in_may_be_reused_for_nothing_else(desk: Desk) -> None:
    """The engine may keep the record itself; what it hands out later must still be that task."""
    task = desk.task("1", payload=b"1")
    await desk.engine.insert([task], desk.now)
    before = members(copy.copy(task))
    await desk.add("2")
    desk.now += MINUTE
    assert members(await desk.get("1")) == before
