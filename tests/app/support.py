"""What the tests of apps share."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 120.0
"""Seconds that a test waits for what should happen at once."""


def wait_until(condition: Callable[[], object]) -> None:
    """Return once the condition holds: for what another process or thread does without saying so."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)
