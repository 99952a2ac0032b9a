"""The contract suite on SQLite."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ratus_engines.sqlite.engine import SqliteEngine

from ratus.engine.testkit import EngineContract, MakeEngine


class TestSqlite(EngineContract):
    @asynccontextmanager
    async def engines(self, folder: Path) -> AsyncIterator[MakeEngine]:
        yield partial(SqliteEngine, path=str(folder / "ratus.db"))
