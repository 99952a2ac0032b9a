"""Fixtures of the memory engine's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.engines.memdb.support import kill_all


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the snapshot is."""
    return tmp_path / "ratus.snapshot"


@pytest.fixture(autouse=True)
def no_locks_are_left() -> Iterator[None]:
    yield
    kill_all()
