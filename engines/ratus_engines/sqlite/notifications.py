"""What the listener and the observer are notified of once a transaction is on disk."""

from __future__ import annotations

from collections.abc import Sequence

from ratus.core.transitions import Event


class Notifications:
    """Topics in which something became available, ids of tasks that were settled, and events by topic."""

    __slots__ = ("available", "events", "settled")

    def __init__(self) -> None:
        self.available: dict[str, None] = {}
        self.settled: list[str] = []
        self.events: list[tuple[str, Sequence[Event]]] = []

    def add(self, other: Notifications) -> None:
        """Append the notifications of another transaction."""
        self.available |= other.available
        self.settled += other.settled
        self.events += other.events
