"""What lives as long as the server: the engine, the requests that wait, the chores, the tokens.

`Service.close` ends the parts in the order of their dependencies: first the claims that are under way for
requests that waited, then the chores and the statistics of topics, and at last the engine, which all of these
use. A part that does not end within its share of the shutdown timeout is left behind, with a line in the log,
so that the engine has time left to write its data.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from typing import Any

from ratus.api.auth import Tokens
from ratus.api.dispatch import Api
from ratus.api.handlers import Handlers
from ratus.core.clock import Clock
from ratus.engine import Engine
from ratus.metrics import Metrics, TopicStats
from ratus.runtime.chores import Chores
from ratus.runtime.clock_watch import ClockWatch
from ratus.runtime.long_polls import LongPollQueue
from ratus.runtime.scheduler import Scheduler
from ratus.runtime.value_watch import ValueWatch
from ratus.server.load import Load

logger = logging.getLogger("ratus")

_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))

# The shares of the shutdown timeout, counted from the end of the shutdown delay, after which each part is
# left behind. Requests in flight end before: ``ratus.server.lifecycle`` has their share. It also cuts off a
# stop at the end of the timeout, so closing the engine has no bound here.
_WAITS, _CHORES, _SURVEY = 9 / 12, 10 / 12, 11 / 12


class StopIncomplete(Exception):
    """A part failed or did not end in time when the server stopped. The engine was closed all the same."""


class Service:
    """The parts that are started before requests are served and closed after the last one.

    It is the `LifecycleHooks` of ``ratus.server.lifecycle``, which calls its methods.
    """

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        long_polls: LongPollQueue,
        value_watch: ValueWatch,
        scheduler: Scheduler,
        chores: Chores,
        handlers: Handlers,
        api: Api,
        metrics: Metrics,
        topic_stats: TopicStats,
        clock_watch: ClockWatch,
        read_tokens: Callable[[], Tokens],
        trim: Callable[[], None],
        shutdown_delay_seconds: float = 0.0,
        shutdown_timeout_seconds: float = 0.0,
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.long_polls = long_polls
        self._value_watch = value_watch
        self._scheduler = scheduler
        self.chores = chores
        self._handlers = handlers
        self._api = api
        self._metrics = metrics
        self._topic_stats = topic_stats
        self._clock_watch = clock_watch
        self._read_tokens = read_tokens
        self._trim = trim
        self._shutdown_delay_seconds = shutdown_delay_seconds
        self._shutdown_timeout_seconds = shutdown_timeout_seconds
        self._stop_begins: float | None = None
        self.closing = ""
        """What `close` is waiting for, for the log."""

    @property
    def eager(self) -> frozenset[str]:
        """See `ratus.server.lifecycle.LifecycleHooks`. GET is not among them: its lists, metrics and
        documents may have to wait, and are not urgent."""
        return _CHANGING if self.engine.traits.immediate else frozenset()

    def refused(self, status: int, client: str) -> None:
        """Count a request that the server could not read, and log it if requests are logged."""
        self._api.note_refused(status, client)

    async def start(self) -> None:
        """Open the engine, then start the chores. Raises `StartupError`."""
        self._clock_watch.start()
        try:
            await self.engine.open(self.clock.now())
        except BaseException:
            self._clock_watch.stop()
            raise
        self._trim()  # after loading, so that the garbage collector need not visit that data again
        self.chores.start()
        self._scheduler.start()

    def begin_shutdown(self) -> None:
        """Answer `/readyz` with 503 from now on, and end all waits."""
        self._handlers.draining = True
        if self._stop_begins is None:
            self._stop_begins = time.monotonic() + self._shutdown_delay_seconds
        self.long_polls.close()
        self._value_watch.close()

    async def close(self) -> None:
        """Join the claims under way, stop the chores, close the engine.

        Raises the engine's error if it could not write its data, and `StopIncomplete` if a part was left
        behind.
        """
        self.begin_shutdown()
        self._clock_watch.stop()
        left = [
            part
            for part, work, share in (
                ("claims for requests that waited", self.long_polls.join, _WAITS),
                ("looking for changed values", self._value_watch.join, _WAITS),
                ("the ticks of schedules", self._scheduler.stop, _CHORES),
                ("the chores", self.chores.stop, _CHORES),
                ("the count of tasks for the metrics", self._topic_stats.close, _SURVEY),
            )
            if not await self._end(part, work(), share)
        ]
        self.closing = f"closing the engine {self.engine.traits.name}"
        await self.engine.close(self.clock.now())
        self.closing = ""
        if left:
            raise StopIncomplete(f"left behind: {', '.join(left)}")

    async def _end(self, part: str, work: Coroutine[Any, Any, None], share: float) -> bool:
        """Run ``work``, which ends a part, until its ``share`` of the timeout is over.

        False, after a line in the log, if it takes longer or fails.
        """
        self.closing = part
        assert self._stop_begins is not None, "the shutdown has begun"
        until = self._stop_begins + share * self._shutdown_timeout_seconds
        task = asyncio.get_running_loop().create_task(work)
        bound = max(0.0, until - time.monotonic()) if self._shutdown_timeout_seconds else None
        await asyncio.wait([task], timeout=bound)
        if not task.done():
            logger.error("stopping: %s did not end in time; going on without", part)
            task.cancel()
            return False
        error = task.exception()
        if error is not None:
            logger.error("stopping: ending %s failed; going on without", part, exc_info=error)
        return error is None

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Publish the number of open connections, which ``count`` returns, as a metric."""
        self._metrics.register(
            "ratus_connections", "gauge", "Number of connections that are open.", lambda: [({}, count())]
        )

    def watch_load(self, load: Load) -> None:
        """Publish as metrics what the server holds in memory for clients, and what it refused to hold."""
        self._metrics.register(
            "ratus_held_bytes",
            "gauge",
            "Bytes held for clients: of request bodies on their way, of answers that are not read.",
            lambda: [({"of": "bodies"}, load.body_bytes), ({"of": "answers"}, load.unread_bytes)],
        )
        self._metrics.register(
            "ratus_overload_refusals_total",
            "counter",
            "Total number of connections and requests refused since all clients together held too much.",
            lambda: [({"limit": limit}, count) for limit, count in load.refused.items()],
        )

    def reload(self) -> None:
        """Read the tokens again. If they cannot be read, that is logged and the old ones stay in force."""
        try:
            tokens = self._read_tokens()
        except (OSError, ValueError) as error:
            logger.error("the tokens stay as they were: %s", error)
            return
        self._api.tokens = tokens
        logger.info("read %d tokens", len(tokens))
