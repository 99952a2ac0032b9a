"""The interpreter's memory is kept in order."""

from __future__ import annotations

import ctypes
import gc
from collections.abc import Iterator

import pytest

from ratus import Client, Task, memory
from ratus.testing import RatusServer


def test_what_lives_long_is_kept_from_the_collector() -> None:
    before = gc.get_freeze_count()
    alive = [[number] for number in range(1000)]
    memory.tidy()
    try:
        assert gc.get_freeze_count() >= before + len(alive)
    finally:
        gc.unfreeze()


@pytest.fixture
def kept_short() -> Iterator[list[int]]:
    """How many objects each collection has looked at since collections are kept short."""
    looked_at: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            looked_at.append(sum(len(gc.get_objects(each)) for each in range(info["generation"] + 1)))

    threshold = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.callbacks.append(note)
    memory.keep_collections_short()
    yield looked_at
    gc.callbacks.remove(note)
    gc.set_threshold(*threshold)
    gc.unfreeze()


@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize("short", [False, True])
def test_garbage_is_not_kept(old: bool, short: bool, request: pytest.FixtureRequest) -> None:
    """What is old, too; where collections are kept short, if there is little of it."""
    gc.collect()
    if short:
        request.getfixturevalue("kept_short")
    circle: list[object] = []
    circle.append(circle)
    if old:
        gc.collect(1)
    del circle
    memory.tidy()
    try:
        gc.unfreeze()
        assert gc.collect() == 0
    finally:
        gc.unfreeze()


def test_old_garbage_is_not_kept_where_collections_are_not_kept_short() -> None:
    """However much came since: a database has the tasks, and what its driver leaves behind is found."""
    gc.collect()
    circle: list[object] = []
    circle.append(circle)
    for _ in range(20):
        gc.collect(1)
    del circle
    memory.tidy()
    try:
        gc.unfreeze()
        assert gc.collect() == 0
    finally:
        gc.unfreeze()


def test_a_million_objects_are_looked_at_in_small_portions(kept_short: list[int]) -> None:
    """By the collector itself and by `tidy`."""
    alive = [[number] for number in range(1_000_000)]
    memory.tidy()
    assert len(alive) == 1_000_000
    assert kept_short
    assert max(kept_short) < 2_000


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_library_without_trim_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(name: object) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert memory._find_trim()(0) == 0


def test_a_server_within_another_program_leaves_its_collector_alone() -> None:
    before = gc.get_threshold(), gc.get_freeze_count()
    with RatusServer() as server, Client(server.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        server.advance("1m")
        assert (gc.get_threshold(), gc.get_freeze_count()) == before
