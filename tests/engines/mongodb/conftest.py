"""Desks at a MongoDB engine: on the shared server, behind a proxy, on a replica set."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from functools import partial

import pytest
from ratus_engines.mongodb.engine import MongodbEngine

from tests.engines.contract.desk import Desk
from tests.engines.contract.engines import absent
from tests.engines.mongodb import servers
from tests.engines.mongodb.proxy import Proxy, proxy


@pytest.fixture(autouse=True)
def clean_floor() -> Iterator[None]:
    yield
    servers.sweep()


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
async def desk(uri: str, database: str) -> AsyncIterator[Desk]:
    """A desk with an open engine."""
    desk = Desk("mongodb", partial(MongodbEngine, uri, database=database))
    desk.engine = await desk.start()
    yield desk
    await desk.end()


@pytest.fixture
async def between(uri: str) -> AsyncIterator[Proxy]:
    """A proxy before the shared server."""
    async with proxy(uri) as made:
        yield made


@pytest.fixture
async def proxied(between: Proxy, database: str) -> AsyncIterator[Desk]:
    """A desk with an open engine that sees the server through the proxy."""
    desk = Desk("mongodb", partial(MongodbEngine, between.uri, database=database))
    desk.engine = await desk.start()
    yield desk
    await desk.end()


@pytest.fixture(scope="session")
def replica_set() -> Iterator[servers.ReplicaSet]:
    """Three members, for all tests of a worker that need no more than that."""
    if servers.mongod() is None:
        absent(servers.ABSENT)
    with servers.replica_set("--setParameter", "ttlMonitorEnabled=false") as members:
        yield members
