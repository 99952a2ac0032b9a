"""What one server takes in one request: where its limits are below the defaults, its refusals say so."""

from __future__ import annotations

import sys
from typing import Final

from ratus.core.errors import BadRequest, PayloadTooLarge, RatusError

LONGEST_WAIT: Final = 20.0
"""Seconds that one request waits: proxies often end requests after 30 or 60."""

BATCH_BYTES: Final = 1024 * 1024
"""Bytes in one request before another is begun: a quarter of the server's default limit."""

_SHORTEST_WAIT: Final = 1.0
"""Seconds; where a server takes no wait that is longer, it is asked again and again instead."""


class Bounds:
    """The most that is asked for; each refusal halves what it is about. All threads of a client share it."""

    def __init__(self) -> None:
        self.wait = LONGEST_WAIT
        self.page = sys.maxsize
        self.batch_items = sys.maxsize
        self.batch_bytes = BATCH_BYTES

    def refused_wait(self, error: RatusError, asked: float) -> None:
        """Wait for less next time. Raises the error when that would not help."""
        if not is_wait_refused(error) or not asked:
            raise error
        self.wait = shorter_wait(asked)

    def refused_page(self, error: RatusError, asked: int) -> None:
        """List less at a time. Raises the error when that would not help."""
        if not (isinstance(error, BadRequest) and "limit" in error.detail) or asked <= 1:
            raise error
        self.page = asked // 2

    def refused_batch(self, error: RatusError, items: int, size: int) -> None:
        """Send less at a time. Raises the error when that would not help.

        A proxy's limit of size counts as the server's own.
        """
        if error.status != PayloadTooLarge.status or items <= 1:
            raise error
        self.batch_items = min(self.batch_items, items // 2)
        self.batch_bytes = min(self.batch_bytes, size // 2)


def is_wait_refused(error: RatusError) -> bool:
    """Whether the server does not wait for as long as it was asked to."""
    return isinstance(error, BadRequest) and error.detail.startswith("wait")


def shorter_wait(asked: float) -> float:
    """Seconds to ask for after a refusal of so many; at last none."""
    return asked / 2 if asked / 2 >= _SHORTEST_WAIT else 0.0
