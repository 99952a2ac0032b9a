"""How large the file gets, and that it gets smaller again."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from ratus_engines.sqlite import engine as module

from ratus.core.records import COMPLETED, TaskRecord
from ratus.testing import START
from tests.engines.sqlite.conftest import Open

pytestmark = pytest.mark.anyio

COUNT = 3_000


async def test_purged_tasks_are_gone_and_their_space_is_given_back(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    for start in range(0, COUNT, 500):
        await engine.insert(
            [
                TaskRecord(
                    str(n),
                    "t",
                    START,
                    START,
                    state=COMPLETED,
                    committed=START + n,
                    payload=b"secret %d" % n * 300,
                )
                for n in range(start, start + 500)
            ],
            START,
        )
    before = pages(path)
    assert await engine.purge(START + COUNT) == COUNT
    assert pages(path) == before
    rounds = 0
    while True:
        # Others get their turn while it is done.
        _, created = await asyncio.gather(
            engine.maintain(START), engine.insert([TaskRecord(f"r{rounds}", "t", START, START)], START)
        )
        assert created == [True]
        rounds += 1
        if pages(path) <= module.KEPT_FREE + 50:
            break
        assert rounds < 20
    assert pages(path) < before / 2
    await engine.close(START)
    assert path.stat().st_size == pages(path) * 4096


async def test_a_little_free_space_is_kept(path: Path, open_engine: Open) -> None:
    engine = await open_engine()
    await engine.insert(
        [TaskRecord(str(n), "t", START, START, payload=b"1" * 500) for n in range(1_000)], START
    )
    before = pages(path)
    await engine.delete_topics()
    await engine.maintain(START)
    assert pages(path) == before


def pages(path: Path) -> int:
    connection = sqlite3.connect(path)
    (count,) = connection.execute("PRAGMA page_count").fetchone()
    connection.close()
    return int(count)
