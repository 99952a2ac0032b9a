"""The contract suite on MongoDB: on one server, and on a replica set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import ClassVar

from ratus_engines.mongodb.engine import MongodbEngine

from ratus.engine.testkit import EngineContract, MakeEngine
from tests.absent import absent
from tests.engines.mongodb import servers


class TestMongodb(EngineContract):
    @asynccontextmanager
    async def engines(self, folder: Path) -> AsyncIterator[MakeEngine]:
        """A database of this process; the folder holds its name, for the other processes of a test."""
        uri = self.uri()
        if uri is None:
            absent(servers.ABSENT)
        note = folder / "mongodb"
        if not note.exists():
            note.write_text(f"ratus_test_{os.getpid()}")
            servers.fresh(note.read_text(), uri=uri)
        yield partial(MongodbEngine, uri, database=note.read_text())

    def uri(self) -> str | None:
        return servers.shared_uri()


class TestMongodbOnReplicaSet(TestMongodb):
    # A write waits for two of three members: ten times as long as alone.
    machine_steps: ClassVar[int] = 250
    # Each example begins with an empty database; the long run makes as many steps on one.
    test_no_difference_to_the_model = None  # type: ignore[assignment]  # so pytest does not collect it

    def uri(self) -> str | None:
        return servers.shared_replica_set_uri()
