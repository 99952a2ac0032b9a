"""An app on a server of the test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ratus import App
from ratus.testing import RatusServer


@pytest.fixture
def server() -> Iterator[RatusServer]:
    """A server whose clock stands still."""
    with RatusServer() as running:
        yield running


@pytest.fixture
def app(server: RatusServer) -> Iterator[App]:
    """An app of that server."""
    with App(server.url) as made:
        yield made


@pytest.fixture
def live() -> Iterator[RatusServer]:
    """A server whose clock runs."""
    with RatusServer(real_clock=True) as running:
        yield running
