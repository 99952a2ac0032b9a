"""What all connections of a server share, and the one timer that looks after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from email.utils import formatdate
from typing import Protocol, cast

from uvicorn.server import ServerState

from ratus.server.connection_limits import ConnectionLimits
from ratus.server.load import Load

# So many answers are written at once after one that was the only one of its turn of the loop. Then one is
# held until the end of its turn again, to see whether others have come.
UNBATCHED = 4


class OpenConnection(Protocol):
    """What is asked of every connection here; `ratus.server.protocol.HTTPProtocol` is one."""

    loop: asyncio.AbstractEventLoop
    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed."""

    def flush(self) -> None:
        """Write what has been answered."""

    def shutdown(self) -> None:
        """The server stops: close, or answer what is in work first."""

    def abort(self) -> None:
        """Close without writing what is left."""


class ServingState(ServerState):
    """The open connections, the requests in work, and whether the server is stopping.

    One periodic sweep ends what has outstayed its limit: a timer for each request would cost more than a
    simple request does.
    """

    def __init__(
        self, limits: ConnectionLimits, eager: frozenset[str], refused: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self.limits = limits
        self.refused = refused
        """To be told the status and the client of an answer that the application knows nothing of."""
        self.eager = eager
        """The methods whose requests begin as soon as they are read."""
        self.cycles: set[object] = set()
        """The requests in work."""
        self.load = Load(limits)
        self.context = copy_context()
        """What every request starts with; it runs in a copy."""
        self.draining = False
        """The server is stopping: every answer is the last of its connection."""
        self.date_line = b""
        self.unbatched = 0
        """So many answers to come are taken to be the only ones of their turns, and wait for no others."""
        self._unflushed: list[OpenConnection] = []
        self._idle = asyncio.Event()
        self._timer: asyncio.TimerHandle | None = None
        self._refresh_date()

    @property
    def open(self) -> set[OpenConnection]:
        """The connections that are open."""
        return cast("set[OpenConnection]", self.connections)

    def start_sweeping(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sweep every ``limits.sweep_seconds`` from now on, until ``stop_sweeping``."""
        self._timer = loop.call_later(self.limits.sweep_seconds, self.start_sweeping, loop)
        self._refresh_date()
        now = loop.time()
        late = [(each, each.deadline) for each in self.open if each.deadline <= now]
        if late:
            # A loop runs its timers before it reads. After a standstill of the process (SIGSTOP, a busy
            # machine) what came in time may still be unread, and an answer unwritten that its client has made
            # room for. In between two turns the loop reads and writes.
            loop.call_soon(loop.call_soon, self._expire, late)

    def _expire(self, late: list[tuple[OpenConnection, float]]) -> None:
        """End those connections whose deadline has not moved since it was found to have passed."""
        for connection, deadline in late:
            if connection in self.connections and connection.deadline == deadline:
                connection.expire(connection.loop.time())

    def stop_sweeping(self) -> None:
        """Stop the periodic sweep."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refresh_date(self) -> None:
        self.date_line = b"date: " + formatdate(usegmt=True).encode("ascii") + b"\r\n"

    def flush_soon(self, connection: OpenConnection) -> None:
        """Have the connection write its answers once all that can be read now has been read."""
        if not self._unflushed:
            connection.loop.call_soon(self._flush)
        self._unflushed.append(connection)

    def _flush(self) -> None:
        connections, self._unflushed = self._unflushed, []
        if len(connections) == 1:
            self.unbatched = UNBATCHED
        for connection in connections:
            connection.flush()

    def settled(self) -> None:
        """A connection has been closed or a request has ended."""
        if not self.connections and not self.cycles:
            self._idle.set()

    async def shutdown(self) -> None:
        """Close idle connections, finish the requests in flight, and return when none is left.

        A client that stops sending or reading is given up after ``body_seconds`` at the latest, so this ends
        when the application has answered its requests.
        """
        self.draining = True
        self._idle.clear()
        for connection in list(self.open):
            connection.shutdown()
        self.settled()
        await self._idle.wait()

    def abort(self) -> None:
        """End every connection at once."""
        for connection in list(self.open):
            connection.abort()
