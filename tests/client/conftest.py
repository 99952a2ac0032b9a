"""A server, and a client of each kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from ratus.testing import RatusServer
from tests.client.support import BOTH, connect


@pytest.fixture(params=BOTH)
def kind(request: pytest.FixtureRequest) -> str:
    """Each kind of client in turn."""
    return str(request.param)


@pytest.fixture
def server() -> Iterator[RatusServer]:
    """A server whose clock stands still."""
    with RatusServer() as running:
        yield running


@pytest.fixture
def live() -> Iterator[RatusServer]:
    """A server whose clock runs."""
    with RatusServer(real_clock=True) as running:
        yield running


@pytest.fixture
def ratus(kind: str, server: RatusServer) -> Iterator[Any]:
    """A client of the server whose clock stands still, of each kind in turn."""
    with connect(kind, server.url) as client:
        yield client
