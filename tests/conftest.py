"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked ``anyio`` are coroutines and run on asyncio, each on an event loop of its own."""
    return "asyncio"
