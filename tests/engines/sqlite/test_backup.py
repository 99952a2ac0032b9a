"""Copies that are taken while servers write."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from ratus_engines.sqlite import backups
from ratus_engines.sqlite.engine import SqliteEngine

from ratus import cli
from ratus.core.errors import StartupError
from ratus.core.records import TaskQuery, TaskRecord
from ratus.testing import START
from tests.engines.sqlite.conftest import Open
from tests.engines.sqlite.crowd import Client, Ledger
from tests.engines.sqlite.test_torture import FLAGS, check, check_file
from tests.servers import ROOT, serving

pytestmark = pytest.mark.anyio

TIMEOUT = 1_000_000


def ignore(done: int, total: int) -> None:
    """Progress that nobody looks at."""


def new(task_id: str) -> TaskRecord:
    return TaskRecord(task_id, "t", START, START, payload=b"1" * 1_000)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "copies"
    folder.mkdir()
    return folder / "copy.db"


async def ids(path: Path) -> list[str]:
    engine = SqliteEngine(path=str(path))
    await engine.open(START)
    page = await engine.list_tasks(TaskQuery("t", 100_000))
    await engine.close(START)
    return [task.id for task in page.tasks]


async def test_a_copy_is_the_file_as_it_was_when_it_began(
    path: Path, open_engine: Open, target: Path
) -> None:
    engine = await open_engine()
    await engine.insert([new(str(n)) for n in range(5_000)], START)
    loop = asyncio.get_running_loop()
    reports: list[tuple[int, int]] = []

    def progress(done: int, total: int) -> None:
        """After each step, somebody writes and is answered before the next."""
        reports.append((done, total))
        asyncio.run_coroutine_threadsafe(engine.insert([new(f"late {done}")], START), loop).result()

    await asyncio.to_thread(backups.copy, path, target, TIMEOUT, progress)
    assert len(reports) >= 2
    assert reports[-1][0] == reports[-1][1] == target.stat().st_size
    assert list(target.parent.iterdir()) == [target]
    check_file(target)
    assert await ids(target) == [str(n) for n in range(5_000)]
    late = await engine.list_tasks(TaskQuery("t", 10, offset=5_000))
    assert len(late.tasks) == len(reports)


async def test_what_is_still_in_the_log_is_copied(path: Path, open_engine: Open, target: Path) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    assert path.with_name("ratus.db-wal").stat().st_size > 0
    backups.copy(path, target, TIMEOUT, ignore)
    assert await ids(target) == ["1"]


async def test_the_file_of_a_server_that_was_killed(path: Path, target: Path, tmp_path: Path) -> None:
    ledger = Ledger()
    flags = (*FLAGS, "--sqlite-path", str(path))
    with serving(tmp_path, *flags) as server:
        at_work = [
            asyncio.create_task(Client(str(n), server.port, ledger, refusals="never").work())
            for n in range(4)
        ]
        await asyncio.sleep(0.3)
        server.process.kill()
        await asyncio.gather(*at_work)
    backups.copy(path, target, TIMEOUT, ignore)
    with serving(tmp_path, *FLAGS, "--sqlite-path", str(target)) as server:
        await check(server.port, ledger)


async def refusal(source: Path, target: Path) -> str:
    before = sorted(target.parent.iterdir()) if target.parent.is_dir() else None
    with pytest.raises(StartupError) as caught:
        backups.copy(source, target, TIMEOUT, ignore)
    assert (sorted(target.parent.iterdir()) if target.parent.is_dir() else None) == before
    return str(caught.value)


async def test_what_cannot_be_copied(path: Path, open_engine: Open, target: Path) -> None:
    assert "there is no database" in await refusal(path, target)
    path.touch()
    assert "holds no tasks yet" in await refusal(path, target)
    path.write_bytes(b"x" * 1000)
    assert "not an SQLite database" in await refusal(path, target)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE notes (x)")
    other.close()
    assert "of another program" in await refusal(path, target)


async def test_nothing_is_overwritten(
    path: Path, open_engine: Open, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await open_engine()
    target.write_text("precious")
    assert "exists already" in await refusal(path, target)
    assert target.read_text() == "precious"
    dangling = target.with_name("dangling")
    dangling.symlink_to("nowhere")
    assert "exists already" in await refusal(path, dangling)
    assert "create it" in await refusal(path, target.parent / "missing" / "copy.db")

    # Somebody else writes to the same name meanwhile.
    def get_there_first(done: int, total: int) -> None:
        late.write_text("precious")

    late = target.with_name("late.db")
    with pytest.raises(StartupError, match="came into being meanwhile"):
        backups.copy(path, late, TIMEOUT, get_there_first)
    assert late.read_text() == "precious"

    # Without hard links, too.
    def link(source: Path, target: Path) -> None:
        raise PermissionError("this file system has no links")

    monkeypatch.setattr(os, "link", link)
    late.unlink()
    backups.copy(path, late, TIMEOUT, ignore)
    check_file(late)
    late.unlink()
    with pytest.raises(StartupError, match="came into being meanwhile"):
        backups.copy(path, late, TIMEOUT, get_there_first)
    assert late.read_text() == "precious"


async def test_a_damaged_source_makes_no_copy(path: Path, open_engine: Open, target: Path) -> None:
    engine = await open_engine()
    await engine.insert([new(str(n)) for n in range(500)], START)
    await engine.close(START)
    content = bytearray(path.read_bytes())
    for page in range(20, len(content) // 4096, 7):
        content[page * 4096 : page * 4096 + 200] = os.urandom(200)
    path.write_bytes(content)
    assert "damaged" in await refusal(path, target)


# ---- the command -----------------------------------------------------------------------------------


def run(*arguments: str, **environment: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "ratus", "backup", *arguments],
        env={"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return done.returncode, done.stdout, done.stderr


async def test_the_command_copies(path: Path, open_engine: Open, target: Path) -> None:
    engine = await open_engine()
    await engine.insert([new("1")], START)
    code, out, err = run("--engine", "sqlite", "--sqlite-path", str(path), str(target))
    assert (code, err) == (0, "")
    assert str(target) in out
    assert await ids(target) == ["1"]
    # The environment of the server does, whatever else is in it; flags may come last.
    again = target.with_name("again.db")
    code, _, err = run(
        str(again), "--sqlite-busy-timeout", "2s", ENGINE="sqlite", SQLITE_PATH=str(path), PORT="nonsense"
    )
    assert (code, err) == (0, "")
    assert await ids(again) == ["1"]


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ((), 2, "name one PATH"),
        (("",), 2, "name one PATH"),
        (("a", "b"), 2, "name one PATH"),
        (("a",), 2, "engine memdb cannot be backed up by this command; --engine takes: sqlite"),
        (("a", "--engine", "sqlit"), 2, "unknown engine"),
        (("a", "--engine", "sqlite", "--sqlite-pat", "b"), 2, 'unknown flag "--sqlite-pat"'),
        (("a", "--engine", "sqlite", "--sqlite-busy-timeout", "5"), 2, "--sqlite-busy-timeout"),
        (("a", "--engine", "sqlite", "--sqlite-path", "missing.db"), 1, "there is no database missing.db"),
    ],
)
def test_the_command_says_what_is_wrong(
    arguments: tuple[str, ...],
    code: int,
    text: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["backup", *arguments]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("ratus backup: ")
    assert text in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_command_has_a_help_worth_reading(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["backup", "--help"]) == 0
    out, _ = capsys.readouterr()
    for text in ("usage: ratus backup", "PATH", "--sqlite-path", "SQLITE_PATH", "Restore:"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 100
