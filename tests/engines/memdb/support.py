"""What the tests of the memory engine share."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.records import CommitRecord, RetryPolicy, TaskQuery, TaskRecord
from ratus.core.selection import Selection
from ratus.testing import START

MINUTE = 60_000_000


def task(task_id: str, topic: str = "t", **members: Any) -> TaskRecord:
    """A task that is due at `START`."""
    return TaskRecord(id=task_id, topic=topic, produced=START, scheduled=START, **members)


_engines: dict[Path, MemdbEngine] = {}


async def opened(path: Path | None = None, interval: int = 5 * MINUTE) -> MemdbEngine:
    """An engine that is open. One that was opened on the same path before counts as killed: its lock goes."""
    engine = MemdbEngine(snapshot_path=str(path) if path else "", snapshot_interval=interval)
    if path is not None:
        kill(_engines.get(path))
        _engines[path] = engine
    await engine.open(START)
    return engine


def kill(engine: MemdbEngine | None) -> None:
    """What remains of an engine whose process is gone: nothing, and no lock."""
    if engine is not None and engine._snapshots is not None:
        engine._snapshots.unlock()


def kill_all() -> None:
    """The end of a test."""
    while _engines:
        kill(_engines.popitem()[1])


def files(folder: Path) -> list[str]:
    """The names in a folder but for locks, which stay."""
    return sorted(found.name for found in folder.iterdir() if found.suffix != ".lock")


async def tasks_of(engine: MemdbEngine, topic: str = "t") -> list[TaskRecord]:
    """All tasks of a topic in order of creation."""
    return list((await engine.list_tasks(TaskQuery(topic, 1_000_000))).tasks)


def version(path: Path) -> int:
    """Differs from one snapshot to the next: each is a file of its own."""
    return os.stat(path).st_ino


async def small(path: Path) -> bytes:
    """A snapshot of a few tasks that differ in everything."""
    engine = await opened(path)
    policy = RetryPolicy(max_attempts=2, backoff="linear", delay=1, max_delay=2, jitter=0.5)
    await engine.insert([task("1", payload=b'{"a":1}', retry=policy, expires=START + MINUTE)], START)
    await engine.insert([task("2", "\u00e9", priority=-9), task("3"), task("4")], START)
    await engine.claim(Selection(("t",), START + MINUTE, "me"), START)
    await engine.commit([CommitRecord("3"), CommitRecord("4", error="boom")], START)
    await engine.set_paused("paused", True)
    await engine.close(START)
    return path.read_bytes()
