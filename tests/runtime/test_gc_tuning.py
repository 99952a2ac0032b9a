"""The interpreter's memory is kept in order."""

from __future__ import annotations

import ctypes
import gc
import weakref
from collections.abc import Iterator

import pytest
from ratus_engines.memdb.engine import MemdbEngine

from ratus import Client, Task
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection
from ratus.runtime import gc_tuning
from ratus.testing import RatusServer


@pytest.fixture(autouse=True)
def all_in_sight() -> Iterator[None]:
    """Before and after a test, the collector sees everything."""
    gc.unfreeze()
    yield
    gc.unfreeze()


def circle() -> weakref.ref[Circle]:
    """An object that holds itself and is held by nothing else."""
    made = Circle()
    made.itself = made
    return weakref.ref(made)


class Circle:
    itself: Circle


def test_what_was_loaded_is_kept_from_the_collector() -> None:
    alive = [[number] for number in range(1000)]
    gc_tuning.Trim()()
    assert gc.get_freeze_count() >= len(alive)
    assert len(gc.get_objects()) < 1000


@pytest.fixture
def kept_short() -> Iterator[list[int]]:
    """How many objects each collection has looked at since collections are kept short."""
    looked_at: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked_at.append(sum(len(gc.get_objects(each)) for each in range(info["generation"] + 1)))

    threshold = gc.get_threshold()
    gc.collect()
    gc.callbacks.append(note)
    gc_tuning.tune_collector()
    yield looked_at
    gc.callbacks.remove(note)
    gc.set_threshold(*threshold)


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("much", [False, True])
@pytest.mark.parametrize("short", [False, True])
def test_garbage_is_not_kept(old: bool, much: bool, short: bool, request: pytest.FixtureRequest) -> None:
    """However old it is, and however much came since."""
    if short:
        request.getfixturevalue("kept_short")
    trim = gc_tuning.Trim()
    trim()
    garbage = circle()
    alive = [[number] for number in range(100_000 if much else 0)]
    for _ in range(20 if old else 0):
        gc.collect(1)
    trim()
    assert garbage() is None
    assert len(alive) == (100_000 if much else 0)


def test_what_became_garbage_out_of_sight_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """The more there is, the more rounds it takes."""
    monkeypatch.setattr(gc_tuning, "_EVERYTHING", 3)
    monkeypatch.setattr(gc_tuning, "_A_ROUND_EACH", 20_000)
    trim = gc_tuning.Trim()
    trim()
    alive = [[number] for number in range(100_000)]
    kept = Circle()
    kept.itself = kept
    garbage = weakref.ref(kept)
    trim()  # there is much, which is put out of sight
    del kept
    rounds = 0
    while garbage() is not None:
        trim()
        rounds += 1
        assert rounds < 100
    assert rounds >= 3
    assert len(alive) == 100_000


def test_little_is_looked_at_again_with_every_call() -> None:
    trim = gc_tuning.Trim()
    trim()
    alive = [[number] for number in range(1000)]
    frozen = gc.get_freeze_count()
    trim()
    # Not frozen with what is much; a thread that an earlier test has left may free some that were.
    assert gc.get_freeze_count() < frozen + len(alive)
    assert len(alive) == 1000


@pytest.mark.anyio
async def test_tasks_are_not_looked_at(kept_short: list[int]) -> None:
    """Neither by the collector itself nor by `Trim`: a hundred thousand are a few thousand objects."""
    trim = gc_tuning.Trim()
    trim()
    kept_short.clear()
    engine = MemdbEngine()
    await engine.open(0)
    tasks = [TaskRecord(id=str(number), topic="t", produced=0, scheduled=number) for number in range(100_000)]
    for start in range(0, len(tasks), 1000):
        await engine.insert(tasks[start : start + 1000], 0)
    del tasks
    trim()
    seen = [each for each in gc.get_objects() if type(each) is list and each and type(each[0]) is TaskRecord]
    assert sum(len(each) for each in seen) < 2000
    assert max(kept_short) < 10_000
    await engine.claim(Selection(("t",), 1, "", 50_000), 200_000)
    trim()
    assert max(kept_short) < 10_000
    seen = [each for each in gc.get_objects() if type(each) is list and each and type(each[0]) is TaskRecord]
    assert sum(len(each) for each in seen) < 2000
    await engine.close(0)


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_library_without_trim_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(name: object) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert gc_tuning._find_trim()(0) == 0


def test_a_server_within_another_program_leaves_its_collector_alone() -> None:
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    with RatusServer() as server, Client(server.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        server.advance("1m")
        assert gc.get_threshold() == threshold
        assert gc.get_freeze_count() <= frozen
