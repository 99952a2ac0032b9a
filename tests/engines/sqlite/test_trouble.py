"""When writing fails: who is told, what the health says, and that it goes on afterwards."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import os
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Health
from ratus.engine.testkit.harness import RecordingListener
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
        engine.claim(Selection(("t",), START + 1), START),
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
    number = await engine._write(engine._single.last)
    await engine.maintain(START)  # which tries whether it works again, by writing something
    assert await engine._write(engine._single.last) > number
    assert (await engine.health()).detail == ""
    assert await engine.insert([new("1")], START) == [True]


async def test_nobody_is_told_of_what_was_taken_back(open_engine: Open) -> None:
    class RecordingListener:
        def available(self, topic: str, task: TaskRecord | None = None) -> None:
            raise AssertionError("nothing became available")

        def settled(self, task_id: str) -> None:
            raise AssertionError("nothing was settled")

        def missed(self) -> None:
            raise AssertionError("nothing was missed")

    engine = await open_engine()
    engine.listener = RecordingListener()
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
    assert engine._writer.trouble
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
    for _ in range(5):
        with pytest.raises(RuntimeError, match="a defect"):
            await asyncio.wait_for(engine.insert([new("1")], START), 5)
    assert caplog.text.count("the thread ratus-sqlite-writer failed") == 1  # the log stays short
    monkeypatch.undo()
    assert await engine.insert([new("1")], START) == [True]
    # Nothing is held any more by what failed.
    other = await open_engine(busy_timeout=50_000)
    assert await other.delete_task("1") is True


# ---- the system fails where nothing was begun ------------------------------------------------------


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EIO, errno.EINTR, errno.EBADF])
async def test_a_lock_that_the_system_does_not_give(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, code: int
) -> None:
    engine = await open_engine()
    calls = 0
    really_flock = fcntl.flock

    def flock(file: int, how: int) -> None:
        nonlocal calls
        calls += 1
        if how != fcntl.LOCK_UN:
            raise OSError(code, os.strerror(code))
        really_flock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    for _ in range(3):
        answers = await asyncio.wait_for(
            asyncio.gather(
                engine.insert([new("1")], START),
                engine.claim(Selection(("t",), START + 1), START),
                engine.delete_task("1"),
                return_exceptions=True,
            ),
            30,
        )
        assert [type(each) for each in answers] == [ServiceUnavailable] * 3
        assert os.strerror(code) in str(answers[0])
    health = await engine.health()
    assert health.ready is False
    assert os.strerror(code) in health.detail
    assert len(caplog.records) == 1
    assert calls <= 4
    monkeypatch.undo()
    assert (await engine.health()).ready is True
    assert await engine.insert([new("1")], START) == [True]


async def test_a_lock_that_cannot_be_let_go_is_closed(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await open_engine()
    really_flock = fcntl.flock

    def flock(file: int, how: int) -> None:
        if how == fcntl.LOCK_UN:
            raise OSError(errno.EIO, "Input/output error")
        really_flock(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    for task_id in ("1", "2"):
        assert await asyncio.wait_for(engine.insert([new(task_id)], START), 30) == [True]
    monkeypatch.undo()
    other = await open_engine(busy_timeout=50_000)
    assert await other.delete_task("1") is True
    assert await engine.delete_task("2") is True


@pytest.mark.parametrize(
    "error", [RuntimeError("a defect"), OSError(errno.EIO, "I/O"), MemoryError(), SystemExit()]
)
async def test_whatever_fails_before_anything_was_taken_every_caller_is_answered(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    engine = await open_engine()
    calls = 0

    def work() -> None:
        nonlocal calls
        calls += 1
        raise error

    for worker, call in (
        (engine._writer, lambda: engine.insert([new("1")], START)),
        (engine._reader, lambda: engine.get("1")),
    ):
        calls = 0
        caplog.clear()
        monkeypatch.setattr(worker, "work", work)
        answers = await asyncio.wait_for(
            asyncio.gather(*(call() for _ in range(50)), return_exceptions=True), 30
        )
        assert all(isinstance(each, BaseException) for each in answers)
        assert calls == 1
        assert len(caplog.records) == 1
        monkeypatch.undo()
        await call()


async def test_an_answer_that_no_future_takes(open_engine: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = await open_engine()

    def stop(*arguments: object) -> None:
        raise StopIteration

    monkeypatch.setattr(engine._single, "delete_task", stop)
    failed, done = await asyncio.wait_for(
        asyncio.gather(engine.delete_task("1"), engine.insert([new("2")], START), return_exceptions=True), 30
    )
    assert isinstance(failed, RuntimeError)
    assert done == [True]


async def test_a_reader_that_cannot_end_its_transaction_does_not_read_the_past(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    assert engine._reader._connection is not None
    engine._reader._connection = Failing(  # type: ignore[assignment]  # it acts like one
        engine._reader._connection, lambda statement: statement == "ROLLBACK", sqlite3.SQLITE_IOERR
    )
    assert await engine.get("1") is not None
    await engine.delete_task("1")
    assert await engine.get("1") is None


async def test_the_watch_goes_on_after_an_error_that_was_not_foreseen(
    open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratus_engines.sqlite.watch.INTERVAL", 0.001)
    engine, other = await open_engine(), await open_engine()
    heard = asyncio.Event()

    class Hearing(RecordingListener):
        def available(self, topic: str, task: TaskRecord | None = None) -> None:
            heard.set()

    engine.listener = Hearing()
    failed = asyncio.Event()

    def defect(*arguments: object) -> None:
        failed.set()
        raise RuntimeError("a defect")

    monkeypatch.setattr("ratus_engines.sqlite.queries.news", defect)
    engine.watch(True)
    await asyncio.wait_for(failed.wait(), 30)
    monkeypatch.undo()
    await other.insert([new("1")], START)
    await asyncio.wait_for(heard.wait(), 30)
    engine.watch(False)


# ---- readiness -------------------------------------------------------------------------------------


async def test_one_write_that_waited_in_vain_does_not_make_it_unready_for_ever(
    path: Path, open_engine: Open
) -> None:
    """Behind a load balancer, 503 means that no other write comes; and this instance may do no chores."""
    engine = await open_engine(busy_timeout=10_000)
    lock = os.open(path.with_name(path.name + "-lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ServiceUnavailable, match="locked by another process"):
        await engine.insert([new("1")], START)
    assert (await engine.health()).ready is False
    os.close(lock)
    assert await engine.health() == Health(True)


async def test_health_answers_within_a_second_while_the_lock_is_held(
    path: Path, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ratus_engines.sqlite.engine.PROBE_SECONDS", 0.01)
    engine = await open_engine(busy_timeout=200_000)
    lock = os.open(path.with_name(path.name + "-lock"), os.O_RDWR)
    fcntl.flock(lock, fcntl.LOCK_EX)
    with pytest.raises(ServiceUnavailable):
        await engine.insert([new("1")], START)
    for _ in range(3):
        assert (await engine.health()).ready is False
    assert len(engine._writer._turn) + len(engine._writer._backlog) <= 1  # one probe at a time
    os.close(lock)
    assert engine._probing is not None
    await asyncio.wait([engine._probing])
    assert (await engine.health()).ready is True


async def test_a_claim_whose_caller_is_gone_is_given_back_even_while_closing(open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    claiming = asyncio.ensure_future(engine.claim(Selection(("t",), START + 1_000_000), START))
    taken = engine._writer.take

    def take(most: int | None = None) -> Any:
        jobs = taken(most)
        if any(job.undo for job in jobs):
            engine._writer._loop.call_soon_threadsafe(claiming.cancel)
            time.sleep(0.05)  # in the thread, until the caller is gone
        return jobs

    engine._writer.take = take  # type: ignore[method-assign]  # to hold the claim back
    await asyncio.sleep(0)
    await engine.close(START)
    assert claiming.cancelled()
    again = await open_engine()
    task = await again.get("1")
    assert task is not None
    assert (task.state, task.attempts) == (0, 0)
