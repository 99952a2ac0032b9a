"""Files of the database that are moved, replaced or deleted while a server runs: that is noticed before
anything is written to a file without a name, and what was acknowledged stays."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from pathlib import Path

import pytest
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.records import TaskRecord
from ratus.testing import START
from tests.engines.sqlite.conftest import Open
from tests.servers import Api, assert_error, serving

pytestmark = pytest.mark.anyio

ENDS = ["", "-wal", "-shm", "-lock"]


def new(task_id: str) -> TaskRecord:
    return TaskRecord(task_id, "t", START, START)


def beside(path: Path, end: str) -> Path:
    return path.with_name(path.name + end)


async def assert_noticed(engine: SqliteEngine, end: str) -> None:
    """Writing is refused, and health says why, be it asked first or afterwards."""
    health = await engine.health()
    assert health.ready is False
    assert (
        "moved, replaced or deleted while the server runs; put it back, or restart the server"
        in health.detail
    )
    assert end in health.detail
    with pytest.raises(ServiceUnavailable, match="moved, replaced or deleted"):
        await engine.insert([new("more")], START)
    assert (await engine.health()).ready is False


@pytest.mark.parametrize("end", ENDS)
async def test_a_file_that_was_moved_away_and_is_put_back(path: Path, open_engine: Open, end: str) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    away = path.with_name("away")
    beside(path, end).rename(away)
    await assert_noticed(engine, end)
    assert not beside(path, end).exists()  # nothing is made in its place
    away.rename(beside(path, end))
    assert (await engine.health()).ready is True
    assert await engine.insert([new("2")], START) == [True]


@pytest.mark.parametrize("end", ENDS)
async def test_a_file_that_was_replaced(path: Path, open_engine: Open, end: str) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    away, copy = path.with_name("away"), path.with_name("copy")
    copy.write_bytes(beside(path, end).read_bytes())
    beside(path, end).rename(away)
    copy.rename(beside(path, end))
    await assert_noticed(engine, end)
    away.rename(beside(path, end))
    assert await engine.insert([new("2")], START) == [True]


@pytest.mark.parametrize("end", ["-wal", "-shm", "-lock"])
async def test_a_file_that_was_deleted_costs_nothing_that_was_acknowledged(
    path: Path, open_engine: Open, end: str
) -> None:
    engine = await open_engine()
    for number in range(100):
        await engine.insert([new(str(number))], START)
    beside(path, end).unlink()
    await assert_noticed(engine, end)
    # As after a crash: what the files hold by their names.
    copy = path.with_name("copy.db")
    for suffix in ("", "-wal"):
        with contextlib.suppress(FileNotFoundError):
            beside(copy, suffix).write_bytes(beside(path, suffix).read_bytes())
    connection = sqlite3.connect(copy)
    assert connection.execute("SELECT count(*) FROM tasks").fetchone() == (100,)
    connection.close()
    await engine.close(START)
    again = await open_engine()
    assert len(await ids(again)) == 100
    assert await again.insert([new("more")], START) == [True]


async def ids(engine: SqliteEngine) -> list[str]:
    return [str(number) for number in range(100) if await engine.get(str(number)) is not None]


async def test_a_folder_that_was_renamed(tmp_path: Path, open_engine: Open) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    engine = await open_engine(path=str(folder / "ratus.db"))
    await engine.insert([new("1")], START)
    folder.rename(tmp_path / "other")
    await assert_noticed(engine, "")
    (tmp_path / "other").rename(folder)
    assert await engine.insert([new("2")], START) == [True]


async def test_a_folder_of_the_process_that_was_renamed(
    tmp_path: Path, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    monkeypatch.chdir(folder)
    engine = await open_engine(path="ratus.db")
    folder.rename(tmp_path / "other")
    await assert_noticed(engine, "")
    (tmp_path / "other").rename(folder)
    assert await engine.insert([new("2")], START) == [True]


async def test_a_database_behind_a_link(tmp_path: Path, open_engine: Open) -> None:
    """SQLite keeps its log beside the real file, and so is our lock: one, whatever the database is called."""
    real = tmp_path / "real"
    real.mkdir()
    engine = await open_engine(path=str(real / "ratus.db"))
    link = tmp_path / "link.db"
    link.symlink_to(real / "ratus.db")
    linked = await open_engine(path=str(link))
    assert await engine.insert([new("1")], START) == [True]
    assert await linked.insert([new("2")], START) == [True]
    assert not (tmp_path / "link.db-lock").exists()
    (real / "ratus.db-wal").rename(real / "away")
    await assert_noticed(linked, "ratus.db-wal")
    (real / "away").rename(real / "ratus.db-wal")
    link.unlink()
    await assert_noticed(linked, "")
    assert await engine.insert([new("3")], START) == [True]


async def test_two_servers_do_not_hold_different_locks(path: Path, open_engine: Open) -> None:
    first = await open_engine()
    beside(path, "-lock").unlink()
    second = await open_engine()
    assert await second.insert([new("1")], START) == [True]
    await assert_noticed(first, "-lock")


@pytest.mark.parametrize("ends", [["-wal"], ["-wal", "-shm"]])
async def test_a_log_that_was_deleted_and_kill_9(tmp_path: Path, ends: list[str]) -> None:
    path = tmp_path / "ratus.db"
    flags = ["--engine", "sqlite", "--sqlite-path", str(path)]
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        for number in range(100):
            api.insert("t", str(number))
        for end in ends:
            os.unlink(beside(path, end))
        assert_error(api.get("/readyz"), 503, "moved, replaced or deleted")
        assert_error(api.post("/topics/t/tasks/more", {}), 503, "moved, replaced or deleted")
        server.process.send_signal(signal.SIGKILL)
        server.wait()
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        assert api.get("/topics/t").json["count"] == 100
        api.insert("t", "more")


@pytest.mark.parametrize("end", ["", "-wal"])
async def test_a_file_that_was_emptied(path: Path, open_engine: Open, end: str) -> None:
    """What it held is lost. That is said, and nothing more is acknowledged."""
    engine = await open_engine()
    await engine.insert([new("1")], START)
    os.truncate(beside(path, end), 0)
    assert (await engine.health()).ready is False
    with pytest.raises(ServiceUnavailable, match="was cut while the server runs"):
        await engine.insert([new("2")], START)
    health = await engine.health()
    assert (health.ready, "restore a backup" in health.detail) == (False, True)


async def test_a_log_that_another_program_copied_back_and_cut(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone() == (0, 0, 0)
    connection.close()
    assert beside(path, "-wal").stat().st_size == 0
    assert (await engine.health()).ready is True
    assert await engine.insert([new("2")], START) == [True]
