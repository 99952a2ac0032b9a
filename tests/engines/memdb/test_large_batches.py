"""Large batches are done in slices: others have their turn, and closing waits for what was begun."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.core.errors import ServiceUnavailable
from ratus.core.records import CommitRecord, TaskRecord
from ratus.engine import LARGE_BATCH

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000_000_000
COUNT = 4 * LARGE_BATCH


def tasks(prefix: str = "") -> list[TaskRecord]:
    return [TaskRecord(f"{prefix}{number}", "t", NOW, NOW) for number in range(COUNT)]


@pytest.mark.parametrize("operation", ["insert", "upsert", "commit"])
async def test_others_have_their_turn(operation: str) -> None:
    engine = MemdbEngine()
    await engine.open(NOW)
    batch: list[TaskRecord] | list[CommitRecord] = tasks()
    if operation == "commit":
        await engine.insert(tasks(), NOW)
        batch = [CommitRecord(str(number)) for number in range(COUNT)]
    work = asyncio.create_task(getattr(engine, operation)(batch, NOW))
    turns = 0
    while not work.done():
        await asyncio.sleep(0)
        turns += 1
    assert len(work.result()) == COUNT
    assert turns >= COUNT // LARGE_BATCH


async def test_closing_waits_for_a_batch_that_was_begun(tmp_path: Path) -> None:
    path = str(tmp_path / "snapshot")
    engine = MemdbEngine(snapshot_path=path)
    await engine.open(NOW)
    first = asyncio.create_task(engine.insert(tasks("a"), NOW))
    second = asyncio.create_task(engine.insert(tasks("b"), NOW))
    await asyncio.sleep(0)
    await engine.close(NOW)
    assert all(await first)
    with pytest.raises(ServiceUnavailable):  # it had not been begun
        await second

    again = MemdbEngine(snapshot_path=path)
    await again.open(NOW)
    found = await again.get_topic("t", NOW)
    assert found is not None
    assert found.count == COUNT
    await again.close(NOW)
