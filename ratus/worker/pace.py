"""How many tasks a worker claims ahead of need.

Claiming one by one would make every handler wait for a round trip; claiming many would keep tasks from other
consumers that are free to run them. So as many are held as will be begun within a moment, measured by how
long handlers take: none ahead where they take seconds, hundreds where they take microseconds.
"""

from __future__ import annotations

from typing import Final

AHEAD_SECONDS: Final = 0.1
"""Seconds of work to claim ahead: some round trips, and too short to hold tasks back from other consumers."""

PATIENCE_SECONDS: Final = 1.0
"""Seconds after which a claimed task that was not begun is given back: handlers have become slower."""

BATCH: Final = 1_000
"""Tasks in one claim at most; the server's default bound."""

_WEIGHT: Final = 1 / 16
"""Share of the latest measurement in the mean, which so follows a change of pace within a few dozen tasks."""


class Pace:
    """Measures handlers and says how many tasks to claim."""

    __slots__ = ("_concurrency", "_mean", "_prefetch")

    def __init__(self, concurrency: int, prefetch: int) -> None:
        self._concurrency = concurrency
        self._prefetch = prefetch
        self._mean: float | None = None

    def record(self, seconds: float) -> None:
        """Note how long a handler took. Threads may do this at once: a lost measurement does no harm."""
        mean = self._mean
        self._mean = seconds if mean is None else mean + (seconds - mean) * _WEIGHT

    def stall(self) -> None:
        """Claim nothing ahead until handlers are quick again: a task claimed ahead was not begun in time.

        Handlers that hang are not measured before they end, so the mean alone would not notice.
        """
        self._mean = max(self._mean or 0.0, 2 * AHEAD_SECONDS * self._concurrency)

    @property
    def ahead(self) -> int:
        """How many tasks to hold beside those that are running; none before anything was measured."""
        mean = self._mean
        if mean is None:
            return 0
        if mean * self._prefetch <= AHEAD_SECONDS * self._concurrency:
            return self._prefetch
        return int(AHEAD_SECONDS * self._concurrency / mean)

    def wanted(self, running: int, buffered: int) -> int:
        """How many tasks to claim now; 0 if none are to be claimed yet.

        While handlers are free, tasks are claimed at once. Otherwise they are claimed when half of those held
        ahead are used up, so that one claim brings many.
        """
        ahead = self.ahead
        missing = self._concurrency + ahead - running - buffered
        free = self._concurrency - running - buffered
        if missing <= 0 or (free <= 0 and buffered > ahead // 2):
            return 0
        return min(missing, BATCH)
