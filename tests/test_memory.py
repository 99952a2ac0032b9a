"""The interpreter's memory is kept in order."""

from __future__ import annotations

import ctypes
import gc

import pytest

from ratus import memory


def test_what_lives_long_is_kept_from_the_collector() -> None:
    before = gc.get_freeze_count()
    alive = [[number] for number in range(1000)]
    memory.tidy()
    try:
        assert gc.get_freeze_count() >= before + len(alive)
    finally:
        gc.unfreeze()


def test_young_garbage_is_not_kept() -> None:
    gc.collect()
    circle: list[object] = []
    circle.append(circle)
    del circle
    memory.tidy()
    try:
        gc.unfreeze()
        assert gc.collect() == 0
    finally:
        gc.unfreeze()


@pytest.mark.parametrize("error", [AttributeError, OSError])
def test_a_library_without_trim_is_no_trouble(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def refuse(name: object) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert memory._find_trim()(0) == 0
