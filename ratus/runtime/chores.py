"""Background chores: take back lapsed claims, archive expired tasks, delete old completed ones, snapshot.

One loop runs all chores, once each interval. If a chore fails, that is logged and it is tried again with the
next round; the others still run. Correct claims do not depend on chores (a poll takes lapsed claims back
itself); without chores nothing is purged and no snapshot is written while the server runs.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping

from ratus.core.clock import SECOND, Clock
from ratus.core.errors import ServiceUnavailable
from ratus.core.log_fields import fields
from ratus.engine import Engine
from ratus.metrics import Metrics

logger = logging.getLogger("ratus.runtime.chores")

# Microseconds between two rounds in a process that does not run the engine's chores, only its own.
OWN_INTERVAL = 10 * SECOND

# Seconds after which the loop is cancelled again if it has not ended.
_PATIENCE = 5


Chore = Callable[[int], Awaitable[object]]


class Chores:
    """Runs every chore once an interval. Times are in microseconds.

    The first round comes after ``initial_delay``, or with ``initial_random`` after a random part of it. With
    an ``interval`` of 0 the engine's chores are left to other processes. ``more`` are chores on the engine's
    data that are not the engine's own, by name.
    """

    def __init__(
        self,
        engine: Engine,
        clock: Clock,
        metrics: Metrics,
        *,
        interval: int,
        initial_delay: int = 0,
        initial_random: bool = False,
        retention: int,
        more: Mapping[str, Chore] | None = None,
        random: Callable[[], float] = random.random,
        trim: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._interval = interval
        self._trim = trim
        self._delay = round(initial_delay * random()) if initial_random else initial_delay
        self._chores: dict[str, Chore] = {
            "recover": engine.recover,
            "expire": engine.expire,
            "purge": lambda now: engine.purge(now - retention),
            "maintain": engine.maintain,
            **(more or {}),
        }
        # What every process does for itself, even if it leaves the engine's chores to others.
        self._own: dict[str, Chore] = {"metrics": self._drop_metrics, "memory": self._trim_memory}
        for name in (*self._chores, *self._own) if interval else self._own:
            metrics.chore(name)  # published from the beginning, before the chore is done or fails
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the loop of rounds, in the running event loop."""
        self._task = asyncio.get_running_loop().create_task(self._loop())

    async def stop(self) -> None:
        """Stop the loop, in the middle of a round if need be, and wait until it has ended."""
        task, self._task = self._task, None
        while task is not None and not task.done():
            # Before Python 3.12 a library's `wait_for` may swallow a cancellation: cancel again.
            task.cancel()
            await asyncio.wait([task], timeout=_PATIENCE)

    async def _loop(self) -> None:
        await asyncio.sleep(self._delay / SECOND)
        while True:
            if self._interval:
                await self.run()
            await self._do(self._own)
            await asyncio.sleep((self._interval or OWN_INTERVAL) / SECOND)

    async def run(self) -> None:
        """Run one round of the engine's chores, and measure how long it takes."""
        started = time.perf_counter()
        await self._do(self._chores)
        self._metrics.observe_chore(time.perf_counter() - started)

    async def _do(self, chores: Mapping[str, Chore]) -> None:
        for name, chore in chores.items():
            series = self._metrics.chore(name)
            try:
                done = await chore(self._clock.now())
            except ServiceUnavailable as error:
                series.failures += 1
                logger.warning("chore %s could not run: %s", name, error.detail)
            except Exception:
                series.failures += 1
                logger.exception("chore %s failed; it is tried again with the next round", name)
            else:
                series.done_at = self._clock.now() / SECOND
                if done:
                    logger.debug("chore %s done", name, extra=fields(tasks=done))

    async def _drop_metrics(self, now: int) -> None:
        """Drop the metrics of topics that do not exist any more."""
        topics = self._metrics.topics()
        missing = set(topics).difference(await self._engine.known_topics(topics) if topics else ())
        for topic in missing:
            # `known_topics` may miss a topic that moved in the list while the list was read.
            if await self._engine.get_topic(topic, now) is None:
                self._metrics.drop_topic(topic)

    async def _trim_memory(self, now: int) -> None:
        self._trim()
