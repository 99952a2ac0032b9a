"""Group commit: what shares a transaction is as if it had come one after the other, and fails alone."""

from __future__ import annotations

import asyncio
import copy
import itertools
import random
import sqlite3
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from ratus_engines.sqlite import worker
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import PayloadTooLarge, RatusError, ServiceUnavailable
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import (
    ACTIVE,
    COMPLETED,
    PENDING,
    CommitRecord,
    Rare,
    RetryPolicy,
    TaskQuery,
    TaskRecord,
    TopicSettings,
)
from ratus.core.selection import Selection, Where
from ratus.core.turns import Limits, PerLabel, Rate
from ratus.engine.testkit.harness import CountingObserver, RecordingListener
from ratus.testing import START
from tests.engines.sqlite.conftest import Open
from tests.engines.sqlite.truth import check_lanes

pytestmark = pytest.mark.anyio

TOPICS = ("a", "b")
IDS = [str(number) for number in range(8)]

LABELS = [b'{"l":"x"}', b'{"l":["y","x"]}', b'{"l":"y","m":1}', b'{"m":"x"}']

CHOICES: list[dict[str, Any]] = [
    *([{}] * 4),
    {"order": "newest"},
    {"where": Where("l", ("x",))},
    {"where": Where("m", ("1", "x")), "order": "newest"},
    {"prefer": ("l",)},
    {"prefer": ("m", "l")},
    {"where": Where("l", ("x", "y")), "prefer": ("l",)},
]

LIMITS = [
    None,
    None,
    Limits(concurrency=1),
    Limits(rate=Rate(1, 9)),
    Limits(concurrency=3, per=PerLabel("l", concurrency=1)),
    Limits(per=PerLabel("l", rate=Rate(2, 12, 2))),
    Limits(per=PerLabel("m", ordered=True)),
]

Step = tuple[str, Any, int]

# The order in which a transaction serves what it is asked for.
ORDER = ("alone", "insert", "upsert", "commit", "claim")


def steps(draw: random.Random, base: int) -> list[Step]:
    """Some requests that come at the same time, microseconds apart."""
    found: list[Step] = []
    for now in range(base, base + draw.randint(1, 12)):
        kind = draw.choice((*ORDER, "claim", "claim", "commit"))
        if kind in ("insert", "upsert"):
            found.append((kind, [task(draw, base) for _ in range(draw.randint(0, 5))], now))
        elif kind == "commit":
            found.append((kind, [commit(draw, base) for _ in range(draw.randint(0, 3))], now))
        elif kind == "claim":
            topics = draw.choice((("a",), ("b",), ("b", "a")))
            deadline = now + draw.choice((3, 1000))
            chosen = draw.choice(CHOICES)
            found.append((kind, Selection(topics, deadline, "c", draw.choice((1, 1, 3)), **chosen), now))
        else:
            name = draw.choice(("release", "delete_task", "put_settings", "claim_task", "lift_holds"))
            what = (name, draw.choice(IDS), draw.choice(TOPICS), draw.random() < 0.3, draw.choice(LIMITS))
            found.append((kind, what, now))
    return found


def task(draw: random.Random, base: int) -> TaskRecord:
    return TaskRecord(
        draw.choice(IDS),
        draw.choice(TOPICS),
        base,
        base + draw.randint(-3, 15),
        priority=draw.choice((0, 0, -1, 5)),
        state=draw.choice((PENDING, PENDING, PENDING, ACTIVE, COMPLETED)),
        expires=draw.choice((None, None, base + 5)),
        retry=draw.choice((None, RetryPolicy(max_attempts=1), RetryPolicy(delay=5))),
        payload=draw.choice((None, b"1", b"[]")),
        rare=draw.choice((None, *(Rare(labels=labels) for labels in LABELS))),
    )


def commit(draw: random.Random, base: int) -> CommitRecord:
    return CommitRecord(
        draw.choice(IDS),
        draw.choice(("", "", "wrong")),
        draw.choice(("", "", "a")),
        state=draw.choice((None, None, PENDING, ACTIVE, COMPLETED)),
        error=draw.choice((None, None, "boom")),
        scheduled=draw.choice((None, base + 3)),
        payload=draw.choice((None, b"2")),
        hold=draw.choice((None, None, None, 7)),
    )


async def do(engine: SqliteEngine, step: Step) -> Any:
    """The answer, or the error, as something that can be compared."""
    kind, what, now = copy.deepcopy(step)
    try:
        if kind == "alone":
            name, task_id, topic, yes, limits = what
            if name == "put_settings":  # changing a setting reads first, and so may come after the group
                settings = TopicSettings(yes, limits)
                new = None if settings == TopicSettings() else settings
                return await engine.put_record(TOPIC_SETTINGS, topic, new) > 0
            if name == "lift_holds":
                return await engine.lift_holds(topic, now)
            if name == "claim_task":
                return await engine.claim_task(task_id, Selection((), now + 10), now, force=yes)
            if name == "release":
                return await engine.release(task_id, now, hold=5 if yes else None)
            return await engine.delete_task(task_id)
        answer = await getattr(engine, kind)(what, now)
    except RatusError as error:
        return repr(error)
    return [repr(each) if isinstance(each, RatusError) else each for each in answer]


def plain(answer: Any) -> Any:
    """Numbers in the order of creation may have gaps in one and not in the other."""
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    return (
        {**{n: getattr(answer, n) for n in answer.__struct_fields__}, "sequence": 0}
        if isinstance(answer, TaskRecord)
        else answer
    )


async def everything(engine: SqliteEngine, now: int) -> Any:
    found: list[Any] = [sorted(await engine.list_topics(100, 0))]
    for topic in TOPICS:
        info = await engine.get_topic(topic, now)
        # A label of a topic that has no task for a moment may be in use no longer.
        found.append(None if info is None else structs.replace(info, lanes=0))
        found.append(await engine.next_due(topic, now))
        found.append(await engine.next_due(topic, now, Where("l", ("x",))))
        found.append(await engine.list_lanes(topic, "l", None, 100, now))
        found.append([plain(each) for each in (await engine.list_tasks(TaskQuery(topic, 100))).tasks])
    return found


def engine_at(path: Path) -> SqliteEngine:
    nonces = map("{:016}".format, itertools.count())
    return SqliteEngine(path=str(path), nonces=lambda: next(nonces), random=lambda: 0.5)


@settings(max_examples=60, deadline=None)
@given(draw=st.randoms(use_true_random=False), rounds=st.integers(1, 5))
def test_together_is_as_one_after_the_other(draw: random.Random, rounds: int) -> None:
    async def run(folder: Path) -> None:
        together, alone = engine_at(folder / "together.db"), engine_at(folder / "alone.db")
        await together.open(START)
        await alone.open(START)
        for number in range(rounds):
            base = START + number * 20
            group = steps(draw, base)
            answers = await asyncio.gather(*(do(together, step) for step in group))
            places = sorted(range(len(group)), key=lambda at: ORDER.index(group[at][0]))
            expected = {at: await do(alone, group[at]) for at in places}
            assert [plain(each) for each in answers] == [plain(expected[at]) for at in range(len(group))]
            after = base + 20
            assert await everything(together, after) == await everything(alone, after)
            check_lanes(folder / "together.db")
        await together.close(START)
        await alone.close(START)

    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(run(Path(folder)))


# ---- one fails ---------------------------------------------------------------------------------------


def new(task_id: str, **members: Any) -> TaskRecord:
    return TaskRecord(task_id, "t", START, START, **members)


async def test_one_that_fails_in_an_unforeseen_way_fails_alone(open_engine: Open) -> None:
    engine = await open_engine()
    answers = await asyncio.gather(
        engine.insert([new("1")], START),
        engine.insert([new("not utf-8: \ud800")], START),
        engine.insert([new("2"), new("too large", priority=2**70)], START),
        engine.claim(Selection(("t",), START + 10, limit=1), START),
        engine.commit([CommitRecord("missing")], START),
        engine.insert([new("3")], START),
        return_exceptions=True,
    )
    assert answers[0] == [True]
    assert isinstance(answers[1], UnicodeEncodeError)
    assert isinstance(answers[2], OverflowError)
    assert [each.id for each in answers[3]] == ["1"]  # type: ignore[union-attr]  # a list of tasks
    assert answers[5] == [True]
    page = await engine.list_tasks(TaskQuery("t", 10))
    assert [each.id for each in page.tasks] == ["1", "3"]
    assert (await engine.health()).detail == ""


async def test_those_that_share_a_group_with_one_that_fails_are_told_of_once(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1", state=ACTIVE, deadline=START), new("2")], START)
    engine.listener, engine.observer = listener, observer = RecordingListener(), CountingObserver()
    await asyncio.gather(
        engine.commit([CommitRecord("1", error="boom"), CommitRecord("2")], START),
        engine.insert([new("not utf-8: \ud800")], START),
        engine.insert([new("3")], START),
        return_exceptions=True,
    )
    assert observer.events == {("t", "FAILURE"): 1, ("t", "RETRY"): 1}
    assert listener.tasks == ["2"]
    assert "t" in listener.topics


async def test_a_task_that_is_too_large_for_sqlite(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_engine()
    # As if SQLite's own limit of a gigabyte were lower.
    connection = engine._writer._connection
    assert connection is not None

    def limit(transaction: object) -> None:
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, 10_000)

    await engine._write(limit)
    with pytest.raises(PayloadTooLarge):
        await engine.insert([new("1", payload=b"1" * 20_000)], START)
    assert await engine.insert([new("1", payload=b"1" * 1_000)], START) == [True]


async def test_more_than_one_group_can_hold(open_engine: Open) -> None:
    engine = await open_engine()
    tasks = [[new(f"{n}-{m}") for m in range(worker.GROUP_WEIGHT // 2 + 1)] for n in range(5)]
    answers = await asyncio.gather(*(engine.insert(each, START) for each in tasks))
    assert all(all(answer) for answer in answers)
    info = await engine.get_topic("t", START)
    assert info is not None
    assert info.count == sum(map(len, tasks))


# ---- the caller is gone --------------------------------------------------------------------------------


async def claimed(engine: SqliteEngine) -> int:
    info = await engine.get_topic("t", START)
    assert info is not None
    return info.counts[ACTIVE]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
@pytest.mark.parametrize(
    "claim",
    [
        lambda engine: engine.claim(Selection(("t",), START + 10, limit=2), START),
        lambda engine: engine.claim_task("1", Selection((), START + 10), START, force=False),
    ],
)
async def test_what_was_claimed_for_nobody_is_given_back(
    open_engine: Open, claim: Callable[[SqliteEngine], Awaitable[object]], turns: int
) -> None:
    engine = await open_engine()
    await engine.insert([new("1"), new("2")], START)
    caller = asyncio.ensure_future(claim(engine))
    for _ in range(turns):
        await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    # What the writer does next comes after what it did for the caller, and after what that undoes.
    for _ in range(3):
        await engine.release("missing", START)
    assert await claimed(engine) == 0
    task = await engine.get("1")
    assert task is not None
    assert (task.state, task.attempts, task.nonce) == (PENDING, 0, "")


async def test_closing_does_what_was_asked_for(path: Path) -> None:
    engine = SqliteEngine(path=str(path))
    await engine.open(START)
    asked = [asyncio.ensure_future(engine.insert([new(str(n))], START)) for n in range(100)]
    await asyncio.sleep(0)
    await engine.close(START)
    assert await asyncio.gather(*asked) == [[True]] * 100
    with pytest.raises(ServiceUnavailable):
        await engine.insert([new("late")], START)
