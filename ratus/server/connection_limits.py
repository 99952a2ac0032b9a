"""The limits of a connection, all in one place."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ConnectionLimits:
    """How long a client may take and how much it may send before its request is refused.

    Seconds are those of the event loop's monotonic clock and are kept to within ``sweep_seconds``.
    """

    # From connecting, or from the first byte of a further request, to the end of the headers.
    header_seconds: float = 10.0
    # A request body, or the client's reading of an answer, that makes no progress at all.
    body_seconds: float = 30.0
    # Between requests. Go's HTTP client keeps an idle connection for 90 s and must not find it closed.
    idle_seconds: float = 120.0
    # Of the target and of the headers' names and values. An id of 1,024 bytes, all of them escaped, is 3 KiB.
    header_bytes: int = 65_536
    header_count: int = 100
    # After an answer to an unfinished request: how long its rest is read and dropped, so that the client gets
    # to see the answer and not a reset. 8 MiB is twice the default limit of a body.
    linger_seconds: float = 2.0
    linger_bytes: int = 8_388_608
    # Open connections, of all clients together and of one address. Here and below, 0 is no limit.
    connections: int = 0
    connections_per_address: int = 0
    # Paths that are answered on a few connections beyond these limits: probes, so that a full server is not
    # taken for a dead one.
    probes: frozenset[bytes] = frozenset()
    # The bytes of bodies that are not complete yet or whose requests are in work.
    body_bytes: int = 0
    # The bytes of answers that their clients do not read.
    unread_bytes: int = 0
    # Bytes a second that a body has to come at on the average, checked once it has taken ``body_seconds``.
    body_rate: int = 0

    @property
    def sweep_seconds(self) -> float:
        """Seconds between two sweeps of the connections: 1, or a quarter of the shortest limit if less."""
        limits = (self.header_seconds, self.body_seconds, self.idle_seconds, self.linger_seconds)
        return min(1.0, min(limits) / 4)
