"""Finds out what other processes make available, by checking again and again whether the file has changed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable

from ratus.core.errors import ServiceUnavailable
from ratus_engines.sqlite import queries
from ratus_engines.sqlite.reader import Reader

logger = logging.getLogger("ratus.sqlite")

# Seconds between two checks. One takes some microseconds, and waiting requests are to be woken within 250 ms.
INTERVAL = 0.1

# Seconds between two checks, at the most, after unforeseen errors.
LONGEST_PAUSE = 30.0


class Watch:
    """Calls ``notify`` with the topics that have something new since the last check.

    It does not matter which process wrote it. Between `stop` and `start` nothing is checked; the first
    check after that covers all the time between.
    """

    def __init__(self, reader: Reader, notify: Callable[[Iterable[str]], None]) -> None:
        self._reader = reader
        self._notify = notify
        self._task: asyncio.Task[None] | None = None
        self._version = 0
        self._arrived = 0

    async def open(self) -> None:
        """Note where the file is now: what is written later is new. To be awaited before `start`."""
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
                # Waiting requests rely on the checks: they go on whatever happens, but at longer intervals.
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
