"""Fixtures for pytest. In a `conftest.py`: `pytest_plugins = ["ratus.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratus.client import Client
from ratus.testing.server import RatusServer


@pytest.fixture
def ratus_server() -> Iterator[RatusServer]:
    """A server of the test's own: in memory, on a free port, with a clock that the test moves."""
    with RatusServer() as server:
        yield server


@pytest.fixture
def ratus_client(ratus_server: RatusServer) -> Iterator[Client]:
    """A client of that server."""
    with ratus_server.client() as client:
        yield client
