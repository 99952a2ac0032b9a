"""When writing fails: who is told, what the health says, and that it goes on afterwards."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.errors import ServiceUnavailable
from ratus.records import Claim, CommitRecord, TaskRecord
from ratus.testing import START
from tests.engines.sqlite.conftest import Open

pytestmark = pytest.mark.anyio


def new(task_id: str) -> TaskRecord:
    return TaskRecord(task_id, "t", START, START)


class Failing:
    """A connection that refuses some statements as SQLite does when the disk fails."""

    def __init__(self, connection: sqlite3.Connection, fails: Callable[[str], bool], code: int) -> None:
        self._connection = connection
        self._fails = fails
        self._code = code

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    def execute(self, statement: str, *values: Any) -> Any:
        if self._fails(statement):
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = self._code
            error.sqlite_errorname = "SQLITE_TEST"
            raise error
        return self._connection.execute(statement, *values)


def break_it(
    engine: SqliteEngine, fails: Callable[[str], bool], code: int = sqlite3.SQLITE_IOERR
) -> Callable[[], None]:
    """Let the writer's statements fail; gives what repairs it."""
    writer = engine._writer
    connection = writer._connection
    assert connection is not None
    writer._connection = Failing(connection, fails, code)  # type: ignore[assignment]  # it acts like one

    def repair() -> None:
        writer._connection = connection

    return repair


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (sqlite3.SQLITE_FULL, "the disk is full; make room"),
        (sqlite3.SQLITE_IOERR, "look at the disk"),
        (sqlite3.SQLITE_CORRUPT, "it is damaged; restore a backup"),
        (sqlite3.SQLITE_READONLY, "read-only"),
    ],
)
@pytest.mark.parametrize("statement", ["COMMIT", "BEGIN IMMEDIATE"])
async def test_a_group_that_cannot_be_committed(
    open_engine: Open, statement: str, code: int, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await open_engine()
    await engine.insert([new("before")], START)
    repair = break_it(engine, lambda each: each == statement, code)
    answers = await asyncio.gather(
        engine.insert([new("1")], START),
        engine.claim(Claim(("t",), START + 1), START),
        engine.commit([CommitRecord("before")], START),
        return_exceptions=True,
    )
    assert [type(each) for each in answers] == [ServiceUnavailable] * 3
    assert text in str(answers[0])
    health = await engine.health()
    assert health.ready is False
    assert text in health.detail
    with pytest.raises(ServiceUnavailable):
        await engine.maintain(START)
    assert sum("fails" in record.message for record in caplog.records) == 1  # said once, not for each request
    # Reading goes on, and sees what was acknowledged.
    assert await engine.get("1") is None
    task = await engine.get("before")
    assert task is not None
    assert (task.state, task.attempts) == (0, 0)

    repair()
    number = await engine._write(engine._alone.last)
    await engine.maintain(START)  # which tries whether it works again, by writing something
    assert await engine._write(engine._alone.last) > number
    assert (await engine.health()).detail == ""
    assert await engine.insert([new("1")], START) == [True]


async def test_nobody_is_told_of_what_was_taken_back(open_engine: Open) -> None:
    class Ear:
        def available(self, topic: str) -> None:
            raise AssertionError("nothing became available")

        def settled(self, task_id: str) -> None:
            raise AssertionError("nothing was settled")

        def missed(self) -> None:
            raise AssertionError("nothing was missed")

    engine = await open_engine()
    engine.listener = Ear()
    repair = break_it(engine, lambda statement: statement == "COMMIT")
    with pytest.raises(ServiceUnavailable):
        await engine.insert([new("1")], START)
    repair()


async def test_a_connection_that_cannot_even_take_back_is_replaced(open_engine: Open) -> None:
    engine = await open_engine()
    break_it(engine, lambda statement: statement in ("COMMIT", "ROLLBACK"))
    with pytest.raises(ServiceUnavailable):
        await engine.insert([new("1")], START)
    assert await engine.insert([new("2")], START) == [True]
    assert await engine.get("1") is None
    assert (await engine.health()).ready is True


async def test_a_read_that_fails_in_the_middle_of_a_group(open_engine: Open) -> None:
    """A page that cannot be read is met by one operation; the others must not suffer for it."""
    engine = await open_engine()
    await engine.insert([new("1"), new("2")], START)
    repair = break_it(engine, lambda statement: "WHERE id = ?" in statement)  # what deleting looks up
    answers = await asyncio.gather(
        engine.insert([new("3")], START), engine.delete_task("1"), return_exceptions=True
    )
    assert answers[0] == [True]
    assert isinstance(answers[1], ServiceUnavailable)
    repair()
    assert await engine.delete_task("1") is True


async def test_a_file_that_was_moved_away(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    away = path.with_name("away.db")
    path.rename(away)
    for _ in range(2):
        with pytest.raises(ServiceUnavailable, match="moved, replaced or deleted"):
            await engine.insert([new("2")], START)
    assert "put it back" in (await engine.health()).detail
    path.write_bytes(b"another file")
    with pytest.raises(ServiceUnavailable, match="moved, replaced or deleted"):
        await engine.insert([new("2")], START)
    assert path.read_bytes() == b"another file"
    away.rename(path)
    assert await engine.insert([new("2")], START) == [True]
    assert (await engine.health()).ready is True


async def test_it_is_said_when_it_works_again(open_engine: Open, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "ratus.sqlite")
    engine = await open_engine()
    repair = break_it(engine, lambda statement: statement == "COMMIT")
    with pytest.raises(ServiceUnavailable):
        await engine.insert([new("1")], START)
    repair()
    # What writes nothing proves nothing.
    await engine.release("missing", START)
    assert (await engine.health()).ready is False
    await engine.insert([new("1")], START)
    assert "works again" in caplog.text


async def test_a_defect_in_the_thread_is_not_the_end_of_it(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    engine = await open_engine()

    def defect(jobs: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr(engine._writer, "_carry_out", defect)
    with pytest.raises(RuntimeError, match="a defect"):
        await asyncio.wait_for(engine.insert([new("1")], START), 5)
    assert "the thread ratus-sqlite-writer failed" in caplog.text
    monkeypatch.undo()
    assert await engine.insert([new("1")], START) == [True]
    # Nothing is held any more by what failed.
    other = await open_engine(busy_timeout=50_000)
    assert await other.delete_task("1") is True
