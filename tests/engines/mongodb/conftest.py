"""Harnesses at a MongoDB engine: on the shared server, behind a proxy, on a replica set."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.engine.testkit.harness import Harness
from tests.absent import absent
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Proxy, proxy


@pytest.fixture(autouse=True)
def no_sockets_are_left() -> Iterator[None]:
    """A test collects its own garbage, and only that: what is there already need not be looked through, which
    takes longer than most tests."""
    gc.freeze()
    yield
    servers.sweep()
    gc.unfreeze()


@pytest.fixture(scope="session")
def uri() -> str:
    """A deployment to which tests may bring databases of their own."""
    found = servers.shared_uri()
    if found is None:
        absent(servers.ABSENT)
    return found


@pytest.fixture
def database(uri: str) -> str:
    """A database whose collections are empty."""
    name = f"ratus_own_{os.getpid()}"
    servers.fresh(name)
    return name


@pytest.fixture
async def harness(uri: str, database: str) -> AsyncIterator[Harness]:
    """A harness with an open engine."""
    harness = Harness(partial(MongodbEngine, uri, database=database))
    harness.engine = await harness.start()
    yield harness
    await harness.end()


@pytest.fixture
async def between(uri: str) -> AsyncIterator[Proxy]:
    """A proxy before the shared server."""
    async with proxy(uri) as made:
        yield made


@pytest.fixture
async def proxied(between: Proxy, database: str) -> AsyncIterator[Harness]:
    """A harness with an open engine that sees the server through the proxy."""
    harness = Harness(partial(MongodbEngine, between.uri, database=database))
    harness.engine = await harness.start()
    yield harness
    await harness.end()


@pytest.fixture(scope="session")
def replica_set() -> servers.ReplicaSet:
    """Three members, for all tests of a worker that need no more than that."""
    return servers.shared_replica_set() or absent(servers.ABSENT)
