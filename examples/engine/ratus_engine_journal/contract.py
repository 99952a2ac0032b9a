"""What the contract suite needs to know of this engine: how to make one on fresh data in a folder."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from ratus_engine_journal.engine import JournalEngine


@asynccontextmanager
async def journal(folder: Path) -> AsyncIterator[Callable[..., JournalEngine]]:
    """Yields what makes engines; all that are made for one folder work on the same data."""
    yield partial(JournalEngine, str(folder / "ratus.journal"))
