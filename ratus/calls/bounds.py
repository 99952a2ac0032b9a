"""How much a client asks for in one request: less after each refusal of a server with low limits."""

from __future__ import annotations

import sys
from typing import Final

from ratus.core.errors import BadRequest, PayloadTooLarge, RatusError

LONGEST_WAIT: Final = 20.0
"""Seconds that one request asks the server to wait at most: proxies often end requests after 30 or 60."""

BATCH_BYTES: Final = 1024 * 1024
"""Bytes of the items in one request; more items go into the next one. A quarter of the server's default
limit."""

_SHORTEST_WAIT: Final = 1.0
"""Seconds of the shortest wait that is asked for. Where it is refused, the server is not asked to wait."""


class Bounds:
    """The most that one request asks for; each refusal halves the bound that it is about.

    `wait` is in seconds, `page` and `batch_items` are numbers of items. All threads of a client share the
    object.
    """

    def __init__(self) -> None:
        self.wait = LONGEST_WAIT
        self.page = sys.maxsize
        self.batch_items = sys.maxsize
        self.batch_bytes = BATCH_BYTES

    def refused_wait(self, error: RatusError, asked: float) -> None:
        """Wait for less next time than `asked` seconds. Raises the error when that would not help."""
        if not is_wait_refused(error) or not asked:
            raise error
        self.wait = shorter_wait(asked)

    def refused_page(self, error: RatusError, asked: int) -> None:
        """List less at a time than `asked` items. Raises the error when that would not help."""
        if not (isinstance(error, BadRequest) and "limit" in error.detail) or asked <= 1:
            raise error
        self.page = asked // 2

    def refused_batch(self, error: RatusError, items: int, size: int) -> None:
        """Send less at a time than these `items` and bytes. Raises the error when that would not help.

        A proxy's limit of size counts as the server's own.
        """
        if error.status != PayloadTooLarge.status or items <= 1:
            raise error
        self.batch_items = min(self.batch_items, items // 2)
        self.batch_bytes = min(self.batch_bytes, size // 2)


def is_wait_refused(error: RatusError) -> bool:
    """Whether the error is the server's refusal to wait for as long as it was asked to."""
    return isinstance(error, BadRequest) and error.detail.startswith("wait")


def shorter_wait(asked: float) -> float:
    """Seconds to wait for after a wait of `asked` seconds was refused: half of them, and at last 0."""
    return asked / 2 if asked / 2 >= _SHORTEST_WAIT else 0.0
