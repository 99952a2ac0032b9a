"""One server for all tests of a worker that need no settings of their own; names keep them apart."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from tests.servers import Api, Server, serving


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server without chores: nothing happens to a task but what a test asks for."""
    with serving(tmp_path_factory.mktemp("server"), "--chore-interval", "0") as running:
        yield running


@pytest.fixture(scope="session")
def api(server: Server) -> Iterator[Api]:
    """A client of that server."""
    with Api(server.port) as client:
        yield client


@pytest.fixture
def name() -> str:
    """A name for this test alone, to begin its topics and ids with."""
    return unique()


def unique() -> str:
    """A name that nobody else uses."""
    return f"t{uuid.uuid4().hex[:12]}"
