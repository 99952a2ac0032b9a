"""The interpreter's memory is kept in order."""

from __future__ import annotations

import ctypes
import gc

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


@pytest.mark.parametrize("old", [False, True])
def test_garbage_is_not_kept(old: bool) -> None:
    """What is old, too, where there is little of it."""
    gc.collect()
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


def test_a_million_objects_are_not_looked_at() -> None:
    """Neither by the collector itself nor by `tidy`."""
    threshold = gc.get_threshold()
    collections: list[int] = []
    gc.freeze()
    gc.callbacks.append(lambda phase, info: collections.append(info["generation"]))
    try:
        memory.keep_collections_short()
        alive = [[number] for number in range(1_000_000)]
        memory.tidy()
        assert collections
        assert 2 not in collections
        assert len(alive) == 1_000_000
    finally:
        gc.callbacks.pop()
        gc.set_threshold(*threshold)
        gc.unfreeze()


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
