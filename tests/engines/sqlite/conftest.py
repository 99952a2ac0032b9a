"""What the tests of this engine share: engines on files of their own, closed at the end."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.testing import START

Open = Callable[..., Awaitable[SqliteEngine]]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the database is, or will be."""
    return tmp_path / "ratus.db"


@pytest.fixture
async def open_engine(path: Path) -> AsyncIterator[Open]:
    """Opens an engine, on the file at ``path`` unless told otherwise."""
    engines: list[SqliteEngine] = []

    async def open_engine(**options: object) -> SqliteEngine:
        engine = SqliteEngine(**{"path": str(path), **options})  # type: ignore[arg-type]  # checked when called
        await engine.open(START)
        engines.append(engine)
        return engine

    yield open_engine
    for engine in engines:
        await engine.close(START)
