"""What lives as long as the server: the engine, the requests that wait, the chores, the tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable

from ratus.api.auth import Tokens
from ratus.api.dispatch import Api
from ratus.api.handlers import Handlers
from ratus.chores import Chores
from ratus.clock import Clock
from ratus.engine import Engine
from ratus.metrics import Metrics, Survey
from ratus.waiting import WaitingRoom

logger = logging.getLogger("ratus")

_CHANGING = frozenset(("POST", "PUT", "PATCH", "DELETE"))


class Service:
    """Started before requests are served, closed after the last one; see ``ratus.server.lifecycle``."""

    def __init__(
        self,
        *,
        engine: Engine,
        clock: Clock,
        room: WaitingRoom,
        chores: Chores,
        handlers: Handlers,
        api: Api,
        metrics: Metrics,
        survey: Survey,
        read_tokens: Callable[[], Tokens],
        tidy: Callable[[], None],
    ) -> None:
        self.engine = engine
        self.clock = clock
        self.room = room
        self.chores = chores
        self._handlers = handlers
        self._api = api
        self._metrics = metrics
        self._survey = survey
        self._read_tokens = read_tokens
        self._tidy = tidy

    @property
    def eager(self) -> frozenset[str]:
        """See `ratus.server.lifecycle.Service`. With GET come lists, metrics and documents, which may do
        anything and are in no hurry."""
        return _CHANGING if self.engine.traits.immediate else frozenset()

    def refused(self, status: int, client: str) -> None:
        """Count and log a request that the server could not read."""
        self._api.note_refused(status, client)

    async def start(self) -> None:
        """Open the engine, then begin the chores. Raises `StartupError`."""
        await self.engine.open(self.clock.now())
        self._tidy()  # what was loaded
        self.chores.start()

    def begin_shutdown(self) -> None:
        """Not ready any more; whoever waits is sent away."""
        self._handlers.draining = True
        self.room.close()

    async def close(self) -> None:
        """Stop the chores and close the engine; raises if something could not be persisted."""
        await self.chores.stop()
        await self._survey.close()
        await self.engine.close(self.clock.now())

    def watch_connections(self, count: Callable[[], int]) -> None:
        """Tell the number of open connections, which ``count`` gives, as a metric."""
        self._metrics.register(
            "ratus_connections", "gauge", "Number of connections that are open.", lambda: [({}, count())]
        )

    def reload(self) -> None:
        """Read the tokens again. What cannot be read leaves the old ones in force."""
        try:
            tokens = self._read_tokens()
        except (OSError, ValueError) as error:
            logger.error("the tokens stay as they were: %s", error)
            return
        self._api.tokens = tokens
        logger.info("read %d tokens", len(tokens))
