"""The engines that the contract suite runs against. A new one is a function and a line in `ENGINES`.

One of another package is named in the environment, by its name and where its function is:

    RATUS_CONTRACT_ENGINES="journal=ratus_engine_journal.contract:journal"

A function gets a folder of its own and yields what makes engines: called with the keyword arguments of
`Engine` (``retry``, ``random``, ``nonces``), it constructs an engine that is not open yet. All engines made
for one folder work on the same data, those of another process included; the data is fresh at first, and gone
when the context ends. An engine that needs a server calls `absent` when there is none.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import NoReturn

import pytest
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.mongodb.engine import MongodbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from ratus.engine import Engine
from tests.engines.mongodb import servers

Make = Callable[..., Engine]
Factory = Callable[[Path], AbstractAsyncContextManager[Make]]


def absent(reason: str) -> NoReturn:
    """Skip the test at home, fail it in CI: there, everything has to be tried."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@asynccontextmanager
async def memdb(folder: Path) -> AsyncIterator[Make]:
    """With a snapshot, so that closing and opening again keeps everything."""
    yield partial(MemdbEngine, snapshot_path=str(folder / "memdb.snapshot"))


@asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[Make]:
    yield partial(SqliteEngine, path=str(folder / "ratus.db"))


@asynccontextmanager
async def mongodb(folder: Path) -> AsyncIterator[Make]:
    """A database on a real server; the folder holds its name, for the other processes of a test."""
    uri = servers.shared_uri()
    if uri is None:
        absent(servers.ABSENT)
    note = folder / "mongodb"
    if not note.exists():
        note.write_text(f"ratus_test_{os.getpid()}")
        servers.fresh(note.read_text())
    yield partial(MongodbEngine, uri, database=note.read_text())
    servers.sweep()


def of_other_packages() -> dict[str, Factory]:
    """Those that the environment names, separated by white space."""
    found: dict[str, Factory] = {}
    for entry in os.environ.get("RATUS_CONTRACT_ENGINES", "").split():
        name, _, place = entry.partition("=")
        module, _, function = place.partition(":")
        found[name] = getattr(import_module(module), function)
    return found


ENGINES: dict[str, Factory] = {
    "memdb": memdb,
    "mongodb": mongodb,
    "sqlite": sqlite,
    **of_other_packages(),
}
