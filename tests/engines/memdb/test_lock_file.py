"""The lock file of a snapshot, which keeps two servers from overwriting each other's tasks."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.errors import StartupError
from ratus.core.records import TaskRecord
from ratus.testing import START

pytestmark = pytest.mark.anyio


async def engine_with(path: Path, *ids: str) -> MemdbEngine:
    engine = MemdbEngine(snapshot_path=str(path), snapshot_interval=0)
    await engine.open(START)
    await engine.insert([TaskRecord(task_id, "t", START, START) for task_id in ids], START)
    return engine


async def save(engine: MemdbEngine) -> str:
    """Write a snapshot; what health says of it."""
    await engine.insert([TaskRecord(f"{engine.changes}", "t", START, START)], START)
    await engine.maintain(START)
    return (await engine.health()).detail


@pytest.mark.parametrize("replaced", [False, True])
async def test_a_lock_file_that_is_gone_is_made_anew(
    tmp_path: Path, replaced: bool, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "snapshot"
    engine = await engine_with(path, "1")
    lock = tmp_path / "snapshot.lock"
    lock.rename(tmp_path / "away")  # so that its number is not given again
    if replaced:
        lock.touch()
    assert await save(engine) == ""
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "moved, replaced or deleted" in caplog.text
    with pytest.raises(StartupError, match="another server keeps its snapshots"):
        await engine_with(path)
    assert await save(engine) == ""
    assert len(caplog.records) == 1
    await engine.close(START)


async def test_a_server_whose_lock_another_one_has_does_not_overwrite_its_snapshot(tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    first = await engine_with(path, "first")
    (tmp_path / "snapshot.lock").unlink()
    second = await engine_with(path, "second")
    assert await save(second) == ""
    before = path.read_bytes()
    assert "another server keeps its snapshots" in await save(first)
    with pytest.raises(OSError, match="another server keeps its snapshots"):
        await first.close(START)
    assert path.read_bytes() == before
    await second.close(START)
    # Nothing is left locked.
    again = await engine_with(path)
    assert await again.get("second") is not None
    await again.close(START)


async def test_a_folder_that_comes_back_is_locked_again(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = folder / "snapshot"
    engine = await engine_with(path, "1")
    folder.rename(tmp_path / "away")
    assert "No such file or directory" in await save(engine)
    (tmp_path / "away").rename(folder)
    assert await save(engine) == ""
    with pytest.raises(StartupError, match="another server keeps its snapshots"):
        await engine_with(path)
    await engine.close(START)
