"""What all connections of a server share, and the one timer that ends those that are too slow.

`lifecycle` makes one `ServingState` for each server; each connection (`protocol`) and each request in work
(`request_response_cycle`) registers itself in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from email.utils import formatdate
from typing import Protocol, cast

from uvicorn.server import ServerState

from ratus.server.connection_limits import ConnectionLimits
from ratus.server.load import Load

# Answers of several connections are written together at the end of a turn of the event loop. After a turn
# that had a single answer, this many of the next ones are written at once; then one is held back again, to
# see whether others come in the same turn.
UNBATCHED = 4


class OpenConnection(Protocol):
    """What `ServingState` needs of a connection; `ratus.server.protocol.HTTPProtocol` is one.

    ``deadline`` is the time of the loop, in seconds, at which the sweep calls ``expire``.
    """

    loop: asyncio.AbstractEventLoop
    deadline: float

    def expire(self, now: float) -> None:
        """The deadline has passed at the time ``now`` of the loop: end what is too slow."""

    def flush(self) -> None:
        """Write what has been answered."""

    def shutdown(self) -> None:
        """The server stops: close the connection, once a request in work is answered."""

    def abort(self) -> None:
        """Close the connection at once; answers that are not written are lost."""


class ServingState(ServerState):
    """The open connections, the requests in work, and whether the server is stopping.

    One periodic sweep ends connections whose deadline has passed: a timer for each request would cost more
    than a simple request does.
    """

    def __init__(
        self, limits: ConnectionLimits, eager: frozenset[str], refused: Callable[[int, str], None]
    ) -> None:
        super().__init__()
        self.limits = limits
        self.refused = refused
        """Called with the status of an answer to a request that could not be read, which the application has
        not seen, and the client's address."""
        self.eager = eager
        """The methods whose requests begin as soon as they are read."""
        self.cycles: set[object] = set()
        """The requests in work."""
        self.load = Load(limits)
        self.context = copy_context()
        """The context (`contextvars`) of the server; every request runs in a copy of it."""
        self.draining = False
        """The server is stopping: every answer is the last of its connection."""
        self.date_line = b""
        """The header ``date`` of answers, renewed by each sweep."""
        self.unbatched = 0
        """How many of the next answers are written at once, without waiting for others of the same turn."""
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
            # The loop runs timers before it reads and writes. After a standstill of the process (SIGSTOP, a
            # busy machine) bytes that came in time may be unread, and an answer unwritten that its client has
            # room for. So two turns pass first, in which the loop reads and writes; that moves the deadline
            # of a connection that was in time.
            loop.call_soon(loop.call_soon, self._expire, late)

    def _expire(self, late: list[tuple[OpenConnection, float]]) -> None:
        """Expire those connections whose deadline has not moved since the sweep found it passed."""
        for connection, deadline in late:
            if connection in self.connections and connection.deadline == deadline:
                connection.expire(connection.loop.time())

    def stop_sweeping(self) -> None:
        """Stop the periodic sweep; nothing happens where it has not begun."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _refresh_date(self) -> None:
        self.date_line = b"date: " + formatdate(usegmt=True).encode("ascii") + b"\r\n"

    def flush_soon(self, connection: OpenConnection) -> None:
        """Call ``connection.flush`` once the loop has read from every socket readable in this turn."""
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
        """To be called when a connection was closed or a request has ended: `shutdown` may return now."""
        if not self.connections and not self.cycles:
            self._idle.set()

    async def shutdown(self) -> None:
        """Close idle connections, finish the requests in flight, and return when none is left.

        The connection of a client that stops sending or reading is closed after ``body_seconds`` at the
        latest, so this returns soon after the application has answered its requests. It has no limit of its
        own for an application that does not answer; see `abort`.
        """
        self.draining = True
        self._idle.clear()
        for connection in list(self.open):
            connection.shutdown()
        self.settled()
        await self._idle.wait()

    def abort(self) -> None:
        """Close every connection at once, without writing what is left."""
        for connection in list(self.open):
            connection.abort()
