"""The clock is set back: beyond what the contract asks for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.clock import MINUTE, SECOND
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus.testing import START, ManualClock
from tests.engines.sqlite.conftest import Open
from tests.engines.sqlite.test_trouble import break_it
from tests.runtime.hall import Hall

pytestmark = pytest.mark.anyio

HOUR = 60 * MINUTE


def new(task_id: str, now: int = START, later: int = 0) -> TaskRecord:
    return TaskRecord(task_id, "t", now, now + later)


async def claim(engine: SqliteEngine, now: int, limit: int = 1000) -> list[str]:
    return [task.id for task in await engine.claim(Selection(("t",), now + 100 * HOUR, "", limit), now)]


def early(path: Path) -> int:
    connection = sqlite3.connect(path)
    ((count,),) = connection.execute("SELECT count(*) FROM early").fetchall()
    connection.close()
    return int(count)


async def test_a_clock_that_was_set_back_while_no_server_ran(path: Path) -> None:
    engine = SqliteEngine(path=str(path))
    await engine.open(START)
    await engine.insert([new("1"), new("2", later=MINUTE)], START)
    await engine.close(START)
    again = SqliteEngine(path=str(path))
    await again.open(START - HOUR)
    assert await claim(again, START - HOUR) == ["1"]
    assert await claim(again, START + MINUTE) == ["2"]
    await again.close(START)


async def test_what_one_process_keeps_due_is_due_for_all(open_engine: Open) -> None:
    one, other = await open_engine(), await open_engine()
    await one.insert([new("1")], START + 10)
    assert await one.get_topic("t", START - HOUR) is not None
    assert await claim(other, START - HOUR) == ["1"]


async def test_very_many_tasks_are_kept_due_in_slices(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    count = 1700
    for number in range(0, count, 100):
        await engine.insert(
            [new(str(each), START + each // 700) for each in range(number, number + 100)], START
        )
    await engine.insert([new(f"later {each}", later=MINUTE) for each in range(100)], START)
    await engine.insert([new("last")], START + HOUR)
    assert await claim(engine, START - HOUR, 10) == [str(each) for each in range(10)]
    assert early(path) == count + 1 - 10
    assert sorted([*await claim(engine, START - HOUR), *await claim(engine, START - HOUR)]) == sorted(
        [*map(str, range(10, count)), "last"]
    )
    assert early(path) == 0


async def test_what_is_due_by_the_clock_again_is_forgotten(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new(str(each)) for each in range(700)], START)
    assert await claim(engine, START - HOUR, 1) == ["0"]
    await engine.maintain(START - 1)
    assert early(path) == 699
    await engine.maintain(START)
    assert early(path) == 0
    assert len(await claim(engine, START)) == 699


async def test_a_poll_that_waits_gets_what_is_still_due(open_engine: Open) -> None:
    engine = await open_engine()
    hall = Hall(engine, ManualClock())
    await hall.engine.insert([new("1", later=-SECOND), new("2")], START)
    assert await hall.wait() == ["1"]
    hall.clock.step(-HOUR)
    hall.long_polls.clock_stepped()
    assert await hall.wait(wait=MINUTE) == ["2"]


async def test_what_could_not_be_kept_due_is_tried_again(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    repair = break_it(engine, lambda statement: statement == "COMMIT")
    with pytest.raises(ServiceUnavailable):
        await claim(engine, START - HOUR)
    repair()
    assert await claim(engine, START - HOUR) == ["1"]


async def test_times_that_differ_by_a_moment_are_no_step(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    assert await claim(engine, START - 50_000) == []
    assert early(path) == 0
