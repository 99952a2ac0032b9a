"""The contract suite on this engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ratus_engine_journal.engine import JournalEngine

from ratus.engine.testkit import EngineContract, MakeEngine


class TestJournal(EngineContract):
    @asynccontextmanager
    async def engines(self, folder: Path) -> AsyncIterator[MakeEngine]:
        """Yields what makes engines; all that are made for one folder work on the same data."""
        yield partial(JournalEngine, str(folder / "ratus.journal"))
