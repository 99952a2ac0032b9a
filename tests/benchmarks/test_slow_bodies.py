"""The search for slow bodies: it finds none in a short time, repeats itself, and would find one."""

from __future__ import annotations

import pytest

from benchmarks import slow_bodies
from ratus.api import walking


def test_none_is_found() -> None:
    found = slow_bodies.search(seed=1, seconds=600, tries=20)
    assert not [shape for costs, shape in found if slow_bodies.is_slow(costs)]


def test_a_seed_repeats_a_search() -> None:
    first, again = (slow_bodies.search(seed=2, seconds=600, tries=5) for _ in range(2))
    assert first == again


def test_a_slow_reader_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "SLICE", 10**9)  # it never pauses
    assert slow_bodies.is_slow(slow_bodies.cost(slow_bodies.Shape(b"[1.79e308]", 0)))
