"""Programs that a test needs: without them it is skipped at home, and fails in CI."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Callable

import pytest

from benchmarks import services
from benchmarks.benchmark import Unavailable


def need(*names: str) -> None:
    """Go on only where all of these are: programs on the path, or one of `OTHERS`."""
    missing = [name for name in names if not OTHERS.get(name, lambda: _on_path(name))()]  # noqa: B023 - called at once
    if missing:
        reason = f"needs {', '.join(missing)}"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


def _on_path(name: str) -> bool:
    return shutil.which(name) is not None


def _found(find: Callable[[], object]) -> bool:
    try:
        find()
    except Unavailable:
        return False
    return True


OTHERS: dict[str, Callable[[], bool]] = {
    "mongod": lambda: _found(services.mongod),
    "postgresql": lambda: _found(services.postgresql_programs),
    "matplotlib": lambda: importlib.util.find_spec("matplotlib") is not None,
}
