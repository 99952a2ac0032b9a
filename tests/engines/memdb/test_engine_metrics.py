"""What the memory engine tells operators of its snapshots."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus.testing import START
from tests.engines.memdb.support import MINUTE, kill_all, opened, task

pytestmark = pytest.mark.anyio

SECOND = 1_000_000


@pytest.fixture
def path(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "queue.snapshot"
    kill_all()


def figures(engine: MemdbEngine, now: int) -> dict[str, float]:
    return {figure.name.removeprefix("snapshot_"): figure.value for figure in engine.metrics(now)}


async def test_without_a_path_there_are_none() -> None:
    engine = await opened()
    assert engine.metrics(START) == ()


async def test_before_it_is_open_nothing_is_old_or_unsaved(path: Path) -> None:
    engine = MemdbEngine(snapshot_path=str(path))
    assert figures(engine, START) == {
        "age_seconds": 0,
        "unsaved_changes": 0,
        "bytes": 0,
        "duration_seconds": 0,
        "failures_total": 0,
    }


async def test_age_and_unsaved_changes_begin_anew_with_each_snapshot(path: Path) -> None:
    engine = await opened(path)
    assert figures(engine, START + MINUTE) == {
        "age_seconds": 60,
        "unsaved_changes": 0,
        "bytes": 0,
        "duration_seconds": 0,
        "failures_total": 0,
    }
    await engine.insert([task("1"), task("2")], START)
    assert figures(engine, START + 6 * MINUTE)["unsaved_changes"] == 2
    await engine.maintain(START + 6 * MINUTE)
    found = figures(engine, START + 6 * MINUTE + 2 * SECOND)
    assert found["duration_seconds"] > 0
    assert found == {
        "age_seconds": 2,
        "unsaved_changes": 0,
        "bytes": path.stat().st_size,
        "duration_seconds": found["duration_seconds"],
        "failures_total": 0,
    }


async def test_a_snapshot_that_is_not_due_leaves_the_age_as_it_is(path: Path) -> None:
    engine = await opened(path)
    await engine.maintain(START + 10 * MINUTE)
    assert figures(engine, START + 10 * MINUTE)["age_seconds"] == 600
    assert figures(engine, START + 10 * MINUTE)["unsaved_changes"] == 0


async def test_failures_are_counted_and_cost_the_figures_of_the_last_good_one_nothing(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([task("1")], START)
    await engine.maintain(START + 6 * MINUTE)
    before = figures(engine, START + 6 * MINUTE)
    partial = path.with_name(path.name + ".partial")
    partial.mkdir()
    await engine.insert([task("2")], START)
    for number in (1, 2):
        await engine.maintain(START + 12 * MINUTE)
        assert figures(engine, START + 12 * MINUTE) == {
            **before,
            "age_seconds": 360,
            "unsaved_changes": 1,
            "failures_total": number,
        }
    partial.rmdir()
    await engine.maintain(START + 12 * MINUTE)
    assert figures(engine, START + 12 * MINUTE)["age_seconds"] == 0
    assert figures(engine, START + 12 * MINUTE)["failures_total"] == 2


async def test_what_was_loaded_is_saved(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([task("1")], START)
    await engine.close(START)
    engine = await opened(path)
    found = figures(engine, START)
    assert (found["age_seconds"], found["unsaved_changes"]) == (0, 0)
    assert found["bytes"] == path.stat().st_size


async def test_a_clock_that_was_set_back_makes_no_negative_age(path: Path) -> None:
    engine = await opened(path)
    assert figures(engine, START - MINUTE)["age_seconds"] == 0
