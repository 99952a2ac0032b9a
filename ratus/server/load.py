"""What all connections together make the server hold, and whether that is too much."""

from __future__ import annotations

from collections import Counter

from ratus.core.errors import Overloaded
from ratus.server.connection_limits import ConnectionLimits

# The most connections beyond the limits that may be open to send a request, in case it is a probe. Each
# kubelet and each load balancer needs one for a moment.
PROBES = 16


class Load:
    """Counts what clients make the server hold, and refuses what is more than ``ConnectionLimits`` allow."""

    def __init__(self, limits: ConnectionLimits) -> None:
        self._limits = limits
        self._addresses: Counter[str] = Counter()
        self._probing = 0
        self.body_bytes = 0
        """Bytes of bodies that came in more than one read, counted until their requests end."""
        self.unread_bytes = 0
        """Bytes of answers that their clients have not read."""
        self.refused: Counter[str] = Counter(
            dict.fromkeys(("connections", "address", "bodies", "answers"), 0)
        )
        """How often a connection, a body or an answer was refused, by the limit."""

    def connect(self, address: str, connections: int) -> Overloaded | None:
        """Count a new connection; ``connections`` are open, this one included.

        Returns the error to refuse it with, or None.
        """
        limits = self._limits
        if limits.connections_per_address:
            self._addresses[address] += 1
            if self._addresses[address] > limits.connections_per_address:
                return self._refuse(
                    "address",
                    f"at most {limits.connections_per_address} connections of one address are open at a time",
                )
        if limits.connections and connections > limits.connections:
            return self._refuse("connections", f"at most {limits.connections} connections are open at a time")
        return None

    def begin_probe(self) -> bool:
        """Whether a refused connection may still send a request, which is answered if it is a probe."""
        if not self._limits.probes or self._probing >= PROBES:
            return False
        self._probing += 1
        return True

    def end_probe(self) -> None:
        """To be called when a connection is lost for which ``begin_probe`` returned true."""
        self._probing -= 1

    def disconnect(self, address: str) -> None:
        """To be called when a connection is lost that ``connect`` has counted."""
        if self._limits.connections_per_address:
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def add_body(self, size: int) -> Overloaded | None:
        """Count ``size`` bytes of a body, which the caller subtracts from ``body_bytes`` later.

        Returns the error to refuse the request with, or None.
        """
        self.body_bytes += size
        if self._limits.body_bytes and self.body_bytes > self._limits.body_bytes:
            return self._refuse("bodies", "too many bodies are on their way; send this one again")
        return None

    def check_answers(self) -> None:
        """Raise `Overloaded` while clients leave too many bytes of answers unread."""
        if self._limits.unread_bytes and self.unread_bytes > self._limits.unread_bytes:
            raise self._refuse("answers", "too many large answers are not read by their clients")

    def _refuse(self, limit: str, detail: str) -> Overloaded:
        self.refused[limit] += 1
        return Overloaded(detail)
