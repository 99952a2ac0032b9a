"""Which files are opened, which are refused, and that a refused one stays as it was."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ratus_engines.sqlite import connections, schema
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.core.errors import StartupError
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import Record, TaskRecord, TopicSettings
from ratus.testing import START
from tests.engines.sqlite.conftest import Open
from tests.servers import launch

pytestmark = pytest.mark.anyio


async def refusal(path: Path) -> str:
    """Why this file is refused; it must stay as it was."""
    before = path.read_bytes() if path.is_file() else None
    engine = SqliteEngine(path=str(path))
    with pytest.raises(StartupError) as caught:
        await engine.open(START)
    assert (await engine.health()).ready is False
    await engine.close(START)
    assert (path.read_bytes() if path.is_file() else None) == before
    assert str(path) in str(caught.value)
    return str(caught.value)


def database(path: Path, *statements: str) -> None:
    """A database that these statements make."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


async def test_a_missing_folder(tmp_path: Path) -> None:
    assert "create it" in await refusal(tmp_path / "missing" / "ratus.db")


async def test_a_folder_in_its_place(tmp_path: Path) -> None:
    assert "not a regular file" in await refusal(tmp_path)


@pytest.mark.parametrize("content", [b"hello", b"x" * 10_000, b"SQLite format 3\0" + b"\1" * 5_000])
async def test_a_file_that_is_no_database(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "not an SQLite database" in await refusal(path)


async def test_an_empty_file_becomes_a_database(path: Path, open_engine: Open) -> None:
    path.touch()
    engine = await open_engine()
    assert await engine.insert([TaskRecord("1", "t", START, START)], START) == [True]


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE notes (text)", "PRAGMA application_id = 7", "PRAGMA user_version = 1"],
)
async def test_a_database_of_another_program(path: Path, statement: str) -> None:
    database(path, statement)
    assert "of another program" in await refusal(path)


async def test_a_file_of_a_newer_version(path: Path, open_engine: Open) -> None:
    await (await open_engine()).close(START)
    database(path, "PRAGMA user_version = 99")
    message = await refusal(path)
    assert "newer version" in message
    assert "schema 99" in message


async def test_a_damaged_file(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([TaskRecord(str(n), "t", START, START, payload=b"1") for n in range(200)], START)
    await engine.close(START)
    content = bytearray(path.read_bytes())
    content[100:4096] = os.urandom(3996)  # the list of tables
    path.write_bytes(content)
    assert "damaged" in await refusal(path)


async def test_an_old_library_is_named() -> None:
    with pytest.raises(StartupError, match=r"is 3\.34\.1, engine sqlite needs 3\.35\.0"):
        connections.check_library((3, 34, 1))
    connections.check_library((3, 35, 0))
    connections.check_library()


async def test_an_empty_path_is_refused() -> None:
    with pytest.raises(ValueError, match="--sqlite-path is empty"):
        SqliteEngine(path="")


@pytest.mark.parametrize("name", [":memory:", "file:x?mode=memory", "a b#c%20.db"])
async def test_a_name_is_only_a_name(
    tmp_path: Path, name: str, open_engine: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await (await open_engine(path=name)).close(START)
    assert (tmp_path / name).is_file()


@contextlib.contextmanager
def as_nobody() -> Iterator[None]:
    """Be a user who owns nothing: the suite may run as root, to whom nothing is forbidden."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("what", ["file", "folder", "lock", "everything"])
async def test_a_read_only_place(what: str) -> None:
    # The folders of pytest cannot be entered by others.
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        folder = Path(name) / "folder"
        folder.mkdir()
        path = folder / "ratus.db"
        engine = SqliteEngine(path=str(path))
        await engine.open(START)
        await engine.close(START)
        lock = folder / "ratus.db-lock"
        path.chmod(0o666 if what in ("folder", "lock") else 0o444)
        lock.chmod(0o666 if what in ("folder", "file") else 0o444)
        folder.chmod(0o777 if what in ("file", "lock") else 0o555)
        try:
            with as_nobody():
                message = await refusal(path)
        finally:
            folder.chmod(0o777)
    assert "let the server write the file and its folder" in message or "Permission denied" in message
    assert "\n" not in message


async def test_the_command_says_it_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "ratus.db"
    path.write_bytes(b"hello")
    server = launch(tmp_path, "--engine", "sqlite", "--sqlite-path", str(path))
    assert server.wait() == 1
    (line,) = server.log.splitlines()
    assert "it is not an SQLite database; nothing was changed, choose another path" in line


# ---- migrations ----------------------------------------------------------------------------------

SECOND = "ALTER TABLE tasks ADD COLUMN colour TEXT NOT NULL DEFAULT 'grey'; CREATE TABLE extra (x);"
THIRD = "INSERT INTO extra VALUES (1); UPDATE tasks SET colour = 'red';"


def version_of(connection: sqlite3.Connection) -> int:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


async def test_migrations_run_in_order_and_once(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert([TaskRecord("1", "t", START, START, payload=b"1")], START)
    await engine.close(START)
    migrations: Sequence[str] = (*schema.MIGRATIONS, SECOND, THIRD)
    connection = sqlite3.connect(path, isolation_level=None)
    for _ in range(2):
        schema.migrate(connection, migrations)
        assert version_of(connection) == len(migrations)
        assert connection.execute("SELECT id, colour FROM tasks").fetchall() == [("1", "red")]
        assert connection.execute("SELECT x FROM extra").fetchall() == [(1,)]
    connection.close()
    assert "newer version" in await refusal(path)


async def test_a_migration_that_fails_leaves_the_file_as_it_was(path: Path, open_engine: Open) -> None:
    await (await open_engine()).close(START)
    connection = sqlite3.connect(path, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, (*schema.MIGRATIONS, SECOND, "CREATE TABLE extra (y);"))
    # The first step is done, nothing of the second is.
    assert version_of(connection) == len(schema.MIGRATIONS) + 1
    with pytest.raises(sqlite3.OperationalError):
        schema.migrate(connection, (*schema.MIGRATIONS, SECOND, "DROP TABLE extra; CREATE TABLE tasks (x);"))
    assert connection.execute("SELECT count(*) FROM extra").fetchone() == (0,)
    schema.migrate(connection, (*schema.MIGRATIONS, SECOND, THIRD))
    assert version_of(connection) == len(schema.MIGRATIONS) + 2
    connection.close()


async def test_what_is_set_on_the_file(path: Path, open_engine: Open) -> None:
    await open_engine()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA application_id").fetchone() == (int.from_bytes(b"Ratu"),)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA auto_vacuum").fetchone() == (2,)  # incremental
    connection.close()


async def test_topics_that_were_paused_before_there_were_records(path: Path, open_engine: Open) -> None:
    connection = sqlite3.connect(path, isolation_level=None)
    schema.migrate(connection, schema.MIGRATIONS[:3])
    for number, (name, paused) in enumerate([("paused", 1), ("é", 1), ("open", 0)], 1):
        connection.execute("INSERT INTO topics VALUES (?, ?, ?, 0, 0, 0, 0, 0, 0, 0)", (number, name, paused))
    connection.execute("UPDATE counters SET last = 3")
    connection.close()
    engine = await open_engine()
    settings = TopicSettings(paused=True)
    found = await engine.list_records(TOPIC_SETTINGS, "", 10)
    assert found == [Record("paused", 1, settings), Record("é", 2, settings)]
    await engine.put_record(TOPIC_SETTINGS, "paused", None, 1)
    assert await engine.list_records(TOPIC_SETTINGS, "", 10) == [Record("é", 2, settings)]
    assert await engine.put_record(TOPIC_SETTINGS, "open", settings, 0) > 3
