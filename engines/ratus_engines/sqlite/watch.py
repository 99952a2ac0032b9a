"""Finds what other processes make available, by looking whether the file has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from ratus.core.errors import ServiceUnavailable
from ratus_engines.sqlite import queries
from ratus_engines.sqlite.reader import Reader

logger = logging.getLogger("ratus.sqlite")

# Seconds between two looks. One costs some microseconds, and waiting requests are to be woken within 250 ms.
INTERVAL = 0.1

# Seconds between two looks, at the most, after errors that were not foreseen.
LONGEST_PAUSE = 30.0


class Watch:
    """Notifies of topics that have something new since the last look, whichever process wrote it.

    Between `stop` and `start` it does not look; the first look after that covers all the time between.
    """

    def __init__(self, reader: Reader, notify: Callable[[Iterable[str]], None]) -> None:
        self._reader = reader
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._version = 0
        self._arrived = 0

    async def open(self) -> None:
        """Begin to count: what comes from now on is new."""
        self._arrived = await self._reader.submit(queries.last_arrived, ())

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._look_again())

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            self._task = None

    async def _look_again(self) -> None:
        pause = INTERVAL
        while True:
            try:
                await self._look()
            except ServiceUnavailable as error:
                logger.debug("looking for what other processes wrote failed: %s", error.detail)
            except Exception:
                # Requests that wait rely on this: it goes on whatever happens, and more slowly.
                pause = min(2 * pause, LONGEST_PAUSE)
                logger.exception("looking for what other processes wrote failed; trying again")
            else:
                pause = INTERVAL
            await asyncio.sleep(pause)

    async def _look(self) -> None:
        version, found = await self._reader.submit(queries.news, (self._version, self._arrived))
        self._version = version
        if found:
            self._arrived = found[-1][1]
            self._notify([name for name, _ in found])
