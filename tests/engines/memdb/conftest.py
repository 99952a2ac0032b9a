"""Fixtures of the memory engine's tests."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the snapshot is."""
    return tmp_path / "ratus.snapshot"
