"""The contract suite on the memory engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ratus_engines.memdb.engine import MemdbEngine

from ratus.engine.testkit import EngineContract, MakeEngine


class TestMemdb(EngineContract):
    @asynccontextmanager
    async def engines(self, folder: Path) -> AsyncIterator[MakeEngine]:
        """With a snapshot, so that closing and opening again keeps everything."""
        yield partial(MemdbEngine, snapshot_path=str(folder / "memdb.snapshot"))
