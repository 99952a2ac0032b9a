"""Requests with unknown tokens: logged, and answered later than others.

Known tokens are never slowed down, wherever they come from: many clients may share the address of a proxy.
"""

from __future__ import annotations

import asyncio
import logging
from contextvars import Context
from typing import Final

from ratus.core.log_fields import fields

logger = logging.getLogger("ratus")

# How long the answer to an unknown token is held. On one connection a client can try one token at a time.
DELAY_SECONDS: Final = 0.5

# How many answers are held at most: a request that waits keeps up to 64 KiB of its body in memory. Further
# requests are answered at once, and their connections closed.
MOST_HELD: Final = 256

# At most one line in this time; the requests in between are counted.
LOG_SECONDS: Final = 10.0


class FailedTokens:
    """Counts, logs and slows down requests with unknown tokens."""

    def __init__(self) -> None:
        self._held = 0
        self._unlogged = 0
        self._last_client = ""
        self._quiet = False

    async def delay(self, client: str) -> bool:
        """Log or count a failure of this client (its address), and wait for `DELAY_SECONDS`. False, without a
        wait, if too many requests wait already."""
        self._note(client)
        if self._held >= MOST_HELD:
            return False
        self._held += 1
        try:
            await asyncio.sleep(DELAY_SECONDS)
        finally:
            self._held -= 1
        return True

    def _note(self, client: str) -> None:
        self._last_client = client
        if self._quiet:
            self._unlogged += 1
        else:
            logger.warning("a request with an unknown token was refused", extra=fields(client=client))
            self._start_interval()

    def _start_interval(self) -> None:
        self._quiet = True
        loop = asyncio.get_running_loop()
        loop.call_later(LOG_SECONDS, self._end_interval, context=Context())

    def _end_interval(self) -> None:
        count, self._unlogged, self._quiet = self._unlogged, 0, False
        if count:
            logger.warning(
                "%d more requests with unknown tokens were refused",
                count,
                extra=fields(seconds=LOG_SECONDS, last_client=self._last_client),
            )
            self._start_interval()
