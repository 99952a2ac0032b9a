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
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, MINUTE, SECOND, TIMES, Harness, members, value

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


def full(harness: Harness) -> TaskRecord:
    """A task with every member set to something other than its default."""
    return TaskRecord(
        id="full",
        topic="t",
        produced=harness.now - 9 * SECOND,
        scheduled=harness.now - 8 * SECOND,
        state=ACTIVE,
        nonce="AAAABBBBCCCCDDDD",
        producer="p",
        consumer="c",
        consumed=harness.now - 7 * SECOND,
        deadline=harness.now + 6 * SECOND,
        committed=harness.now - 5 * SECOND,
        payload=b'{"n":1}',
        priority=-9,
        attempts=3,
        retry=POLICY,
        error="boom",
        result=b"[2]",
        outcome=FAILED,
        expires=harness.now + HOUR,
    )


class InsertingTests(EngineTests):
    """Insert, upsert and get: what goes in comes out, once, and in its place."""

    async def test_what_was_inserted_comes_back(self, harness: Harness) -> None:
        task = full(harness)
        assert await harness.insert(task) == [True]
        assert members(await harness.get("full")) == members(task)

    async def test_what_was_not_given_is_at_its_default(self, harness: Harness) -> None:
        await harness.add("1")
        assert members(await harness.get("1")) == members(harness.task("1"))

    async def test_an_unknown_id_is_none(self, harness: Harness) -> None:
        assert await harness.engine.get("1") is None

    async def test_insert_leaves_existing_ids_alone(self, harness: Harness) -> None:
        await harness.add("1", producer="first")
        assert await harness.insert(harness.task("1", producer="second"), harness.task("2")) == [False, True]
        assert (await harness.get("1")).producer == "first"
        assert await harness.ids() == ["1", "2"]

    async def test_ids_are_one_namespace_over_all_topics(self, harness: Harness) -> None:
        await harness.add("1", topic="a")
        assert await harness.insert(harness.task("1", "b")) == [False]
        assert (await harness.get("1")).topic == "a"
        assert await harness.topics() == ["a"]

    async def test_the_first_of_two_in_a_batch_is_inserted(self, harness: Harness) -> None:
        tasks = [harness.task("1", "a"), harness.task("1", "b"), harness.task("2"), harness.task("1", "a")]
        assert await harness.insert(*tasks) == [True, False, True, False]
        assert (await harness.get("1")).topic == "a"
        assert (await harness.info("a")).count == 1

    async def test_an_empty_batch_is_nothing(self, harness: Harness) -> None:
        assert await harness.insert() == []
        assert await harness.upsert() == []
        assert await harness.engine.commit([], harness.now) == []
        assert await harness.topics() == []

    async def test_upsert_replaces_the_whole_task(self, harness: Harness) -> None:
        await harness.insert(full(harness))
        assert await harness.upsert(harness.task("full", "other"), harness.task("new")) == [False, True]
        assert members(await harness.get("full")) == members(harness.task("full", "other"))
        assert await harness.ids("other") == ["full"]
        assert await harness.ids("t") == ["new"]

    async def test_the_last_of_two_in_a_batch_is_upserted(self, harness: Harness) -> None:
        await harness.add("old")
        batch = [
            harness.task("old", producer="1"),
            harness.task("new", producer="2"),
            harness.task("old", "other", producer="3"),
            harness.task("new", producer="4"),
        ]
        assert await harness.upsert(*batch) == [False, True, False, False]
        assert [(await harness.get(name)).producer for name in ("old", "new")] == ["3", "4"]
        assert (await harness.info("t")).count == (await harness.info("other")).count == 1

    async def test_upsert_takes_a_task_from_its_consumer(self, harness: Harness) -> None:
        await harness.add("1")
        await harness.claim_one()
        await harness.upsert(harness.task("1"))
        task = await harness.get("1")
        assert (task.state, task.nonce, task.attempts, task.consumer) == (PENDING, "", 0, "")
        assert await harness.claim_ids() == ["1"]

    @pytest.mark.parametrize("way", ["insert", "upsert", "replace"])
    async def test_an_active_task_without_a_deadline_lapses_after_ten_minutes(
        self, harness: Harness, way: str
    ) -> None:
        if way == "replace":
            await harness.add("1")
        task = harness.task("1", state=ACTIVE, nonce="AAAABBBBCCCCDDDD")
        await (harness.insert(task) if way == "insert" else harness.upsert(task))
        assert ((await harness.get("1")).deadline, (await harness.get("1")).implied) == (
            harness.now + DEFAULT_TIMEOUT,
            True,
        )
        harness.now += DEFAULT_TIMEOUT - SECOND
        assert await harness.claim() == []
        harness.now += SECOND
        assert (await harness.claim_one()).implied is False

    @pytest.mark.parametrize("way", ["insert", "upsert", "replace"])
    async def test_a_completed_task_without_a_commit_is_kept_from_now_on(
        self, harness: Harness, way: str
    ) -> None:
        if way == "replace":
            await harness.add("1")
        task = harness.task("1", state=COMPLETED, consumed=harness.now - HOUR)
        await (harness.insert(task) if way == "insert" else harness.upsert(task))
        assert (await harness.get("1")).committed == harness.now
        assert await harness.engine.purge(harness.now - SECOND) == 0
        assert await harness.engine.purge(harness.now) == 1

    @pytest.mark.parametrize("state", [PENDING, ARCHIVED])
    async def test_other_states_are_whole_as_they_are(self, harness: Harness, state: int) -> None:
        await harness.add("1", state=state)
        task = await harness.get("1")
        assert (task.deadline, task.implied, task.committed) == (None, False, None)

    async def test_names_are_compared_whole(self, harness: Harness) -> None:
        for name in NAMES:
            assert await harness.insert(harness.task(name, topic=name, producer=name, consumer=name)) == [
                True
            ], name
        for name in NAMES:
            task = await harness.get(name)
            assert (task.id, task.topic, task.producer, task.consumer) == (name, name, name, name)
            assert await harness.ids(name) == [name]
            assert await harness.ids(name, producer=name) == [name]
            assert (await harness.info(name)).count == 1
        assert await harness.topics() == sorted(NAMES)
        for name in NAMES:
            assert [task.id for task in await harness.claim(name, limit=99)] == [name]
            assert await harness.engine.delete_task(name) is True
            assert await harness.is_gone(name)
        assert await harness.topics() == []

    @pytest.mark.parametrize("text", VALUES, ids=lambda text: text[:20])
    async def test_payloads_and_results_survive(self, harness: Harness, text: str) -> None:
        data = text.encode()
        await harness.add("inserted", payload=data, result=data)
        await harness.add("committed", state=ARCHIVED)
        await harness.commit("committed", payload=data, result=data)
        await harness.reopen()
        for name in ("inserted", "committed"):
            task = await harness.get(name)
            assert value(task.payload) == value(data)
            assert value(task.result) == value(data)

    async def test_huge_integers_survive_or_are_refused(self, harness: Harness) -> None:
        data = b'{"n": ' + b"9" * 4300 + b"}"
        try:
            await harness.add("1", payload=data)
        except BadRequest:
            assert await harness.is_gone("1")
        else:
            assert value((await harness.get("1")).payload) == value(data)

    async def test_a_large_payload_survives(self, harness: Harness) -> None:
        data = b'"' + b"x" * (4 * 1024 * 1024 - 2) + b'"'
        await harness.add("1", payload=data)
        assert (await harness.get("1")).payload == data

    async def test_no_payload_is_not_null(self, harness: Harness) -> None:
        await harness.add("nothing")
        await harness.add("null", payload=b"null")
        assert (await harness.get("nothing")).payload is None
        assert (await harness.get("null")).payload == b"null"

    @pytest.mark.parametrize("time", [MIN_TIME, -1_000, 0, MAX_TIME - MAX_TIME % 1_000])
    async def test_every_time_can_be_kept(self, harness: Harness, time: int) -> None:
        times: dict[str, Any] = dict.fromkeys(TIMES, time)
        await harness.add("1", state=ARCHIVED, **times)
        task = await harness.get("1")
        assert {name: getattr(task, name) for name in TIMES} == times

    async def test_times_are_kept_to_the_engines_precision(self, harness: Harness) -> None:
        time = harness.now + 123_456
        times: dict[str, Any] = dict.fromkeys(TIMES, time)
        await harness.add("1", state=ARCHIVED, **times)
        task = await harness.get("1")
        for name in TIMES:
            assert abs(getattr(task, name) - time) < harness.engine.traits.precision

    @pytest.mark.parametrize(
        "policy",
        [
            RetryPolicy(),
            RetryPolicy(max_attempts=0),
            RetryPolicy(delay=0, max_delay=0, jitter=0.0),
            RetryPolicy(max_attempts=2**31, backoff="constant", delay=1_000, max_delay=MAX_TIME, jitter=1.0),
        ],
    )
    async def test_retry_policies_survive(self, harness: Harness, policy: RetryPolicy) -> None:
        await harness.add("1", retry=policy)
        await harness.reopen()
        assert (await harness.get("1")).retry == policy

    async def test_a_large_batch_is_inserted(self, harness: Harness) -> None:
        ids = [f"{n:05}" for n in range(3000)]
        await harness.add(*ids)
        assert await harness.insert(*(harness.task(name) for name in ids)) == [False] * 3000
        assert await harness.upsert(*(harness.task(name, priority=1) for name in ids)) == [False] * 3000
        assert (await harness.info()).counts == (3000, 0, 0, 0)
        assert await harness.claim_ids(limit=3000) == ids

    async def test_a_record_handed_in_may_be_reused_for_nothing_else(self, harness: Harness) -> None:
        """The engine may keep the record itself; what it hands out later must still be that task."""
        task = harness.task("1", payload=b"1")
        await harness.engine.insert([task], harness.now)
        before = members(copy.copy(task))
        await harness.add("2")
        harness.now += MINUTE
        assert members(await harness.get("1")) == before
