"""Fixtures for pytest. In a `conftest.py`: `pytest_plugins = ["ratus.testing.fixtures"]`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from ratus.app import App
from ratus.client import Client
from ratus.testing.apps import AppTesting
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


@pytest.fixture
def ratus_testing() -> Iterator[Callable[[App], AppTesting]]:
    """Puts an app of the program on a server of the test's own, until the end of the test: see `AppTesting`.

    def test_it(ratus_testing):
        t = ratus_testing(app)
        job = resize.push(7)
        t.run_all()
    """
    with ExitStack() as stack:
        yield lambda app: stack.enter_context(app.testing())
