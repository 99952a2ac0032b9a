"""What is found without looking at everything: statements use their indexes, counts are kept."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from pathlib import Path

import pytest
from msgspec import structs
from ratus_engines.sqlite import (
    choosing,
    claims,
    lane_queries,
    lanes,
    operations,
    queries,
    statements,
    transaction,
)

from ratus.core.records import ACTIVE, COMPLETED, MAX_PAGE_BYTES, TaskQuery, TaskRecord
from ratus.core.selection import Selection
from ratus.testing import START
from tests.engines.sqlite.conftest import Open

pytestmark = pytest.mark.anyio


def texts() -> dict[str, str]:
    """Every statement that the modules hold, by name."""
    found = {}
    for module in (choosing, claims, lane_queries, lanes, operations, queries, statements, transaction):
        for name, value in vars(module).items():
            values = [value]
            if isinstance(value, dict):
                values = list(value.values())
            elif isinstance(value, choosing.LineStatements):
                values = list(structs.astuple(value))
            for number, text in enumerate(values):
                if isinstance(text, str) and re.match(r"\s*(SELECT|WITH|UPDATE|DELETE)\b", text):
                    found[f"{module.__name__.rpartition('.')[2]}.{name}.{number}"] = text
    return found


STATEMENTS = texts()

# Parts of statements.
FRAGMENTS = {"queries._OF_STATE.0", "lanes._OF_STATE.0", "lane_queries._LEVELS.0", "statements._LEVELS.0"}

# Lists of topics are in the order of their numbers, and end at the limit.
MAY_SCAN = re.compile(r"SCAN (found|levels|candidates|\(subquery-\d+\)|CONSTANT ROW)")


@pytest.mark.parametrize("name", sorted(STATEMENTS.keys() - FRAGMENTS))
async def test_a_statement_searches_and_never_scans(path: Path, open_engine: Open, name: str) -> None:
    await open_engine()
    text = STATEMENTS[name]
    connection = sqlite3.connect(path)
    count = len(set(re.findall(r"\?\d+", text))) or text.count("?")
    plan = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {text}", [0] * count)]
    connection.close()
    for step in plan:
        assert "SCAN" not in step or MAY_SCAN.match(step) or is_in_order(step, text), (name, plan)
        # A filter sorts the few candidates of its slice once more.
        assert "TEMP B-TREE" not in step or name.startswith("queries._FILTERED"), (name, plan)


def is_in_order(step: str, text: str) -> bool:
    """Whether it walks a table in its own order, as far as the limit."""
    in_order = {
        "SCAN tasks": "ORDER BY sequence LIMIT",
        "SCAN times": "LIMIT",
        "SCAN labels_in_use USING INDEX labels_unbuilt": "LIMIT",
    }
    return any(step.startswith(scan) and order in text for scan, order in in_order.items())


@pytest.mark.parametrize("slice_size", [7, 10_000])
async def test_due_tasks_are_counted_once(
    open_engine: Open, slice_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What falls due is counted when somebody asks, a slice at a time, and kept from then on."""
    monkeypatch.setattr(operations, "COUNTED", slice_size)
    monkeypatch.setattr(queries, "COUNTED", 5)
    engine = await open_engine()
    tasks = [TaskRecord(str(n), "t", START, START + n // 3 * 2, priority=n % 3) for n in range(90)]
    tasks += [TaskRecord(f"same {n}", "t", START, START + 31) for n in range(60)]
    await engine.insert(tasks, START)
    future = START + 10**9

    async def look(now: int) -> tuple[int, int | None]:
        info = await engine.get_topic("t", now)
        assert info is not None
        return info.due, info.oldest

    def expected(now: int) -> tuple[int, int | None]:
        due = [task.scheduled for task in tasks if task.scheduled <= now]
        return len(due), min(due, default=None)

    for now in (START, START + 60, START + 60, START + 65, START - 1, START + 7, START + 31, START + 100):
        assert await look(now) == expected(now), now - START
    # None of these has to be counted any more.
    await engine._read(queries.get_topic, "t", START + 100, False)
    # The kept number follows whatever happens to the tasks.
    claimed = await engine.claim(Selection(("t",), future, limit=5), START + 100)
    assert len(claimed) == 5
    await engine.delete_task("3")
    await engine.upsert([TaskRecord("6", "t", START, future)], START)
    await engine.insert([TaskRecord("new", "t", START, START), TaskRecord("late", "t", START, future)], START)
    assert (await look(START + 100))[0] == len(tasks) - 5 - 1 - 1 + 1


async def test_chores_look_at_every_topic(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    """More topics than one look takes, of which some have something to do."""
    engine = await open_engine()
    topics = queries.TOPICS_SLICE + 20
    tasks = []
    for n in range(topics):
        lapses, expires = n % 3 == 0, n % 7 == 0
        tasks += [
            TaskRecord(f"a{n}", f"t{n}", START, START, state=ACTIVE, deadline=START if lapses else START + 9),
            TaskRecord(f"e{n}", f"t{n}", START, START, expires=START if expires else START + 9),
            TaskRecord(f"n{n}", f"t{n}", START, START),
        ]
    await engine.insert(tasks, START)
    assert await engine.recover(START) == len(range(0, topics, 3))
    assert await engine.recover(START) == 0
    assert await engine.expire(START) == len(range(0, topics, 7))
    assert await engine.expire(START) == 0


async def test_a_long_operation_lets_others_in(open_engine: Open) -> None:
    engine = await open_engine()
    count = operations.SLICE * 6
    for start in range(0, count, 1000):
        await engine.insert(
            [
                TaskRecord(str(n), "t", START, START, state=COMPLETED, committed=START)
                for n in range(start, start + 1000)
            ],
            START,
        )
    purge = asyncio.ensure_future(engine.purge(START))
    others = 0
    while not purge.done():
        await engine.insert([TaskRecord(f"other {others}", "t", START, START)], START)
        others += 1
    assert await purge == count
    assert others >= 3


async def test_a_filter_finds_what_lies_far_behind(open_engine: Open) -> None:
    engine = await open_engine()
    count = queries.SLICE * 2 + 100
    for start in range(0, count, 1000):
        await engine.insert(
            [
                TaskRecord(str(n), "t", START, START, producer="rare" if n % 1500 == 1499 else "usual")
                for n in range(start, min(start + 1000, count))
            ],
            START,
        )
    query = TaskQuery("t", 10, producer="rare")
    page = await engine.list_tasks(query)
    assert [task.id for task in page.tasks] == ["1499", "2999"]
    assert page.next is None
    page = await engine.list_tasks(TaskQuery("t", 10, offset=1, producer="rare"))
    assert [task.id for task in page.tasks] == ["2999"]
    page = await engine.list_tasks(TaskQuery("t", 10, offset=queries.SLICE + 1))
    assert [task.id for task in page.tasks] == [str(queries.SLICE + 1 + n) for n in range(10)]


async def test_large_tasks_are_claimed_a_few_at_a_time(open_engine: Open) -> None:
    engine = await open_engine()
    size = MAX_PAGE_BYTES // 3
    for n in range(5):
        await engine.insert([TaskRecord(str(n), "t", START, START, payload=b"1" * size)], START)
    one, other = await asyncio.gather(
        engine.claim(Selection(("t",), START + 1, limit=10), START),
        engine.claim(Selection(("t",), START + 1, limit=10), START),
    )
    assert [[task.id for task in each] for each in (one, other)] == [["0", "1"], ["2", "3"]]
    (last,) = await engine.claim(Selection(("t",), START + 1, limit=10), START)
    assert last.payload == b"1" * size
