"""Notices when the wall clock is set.

The wall clock and the monotonic clock advance together. When the difference between them changes, the wall
clock was set (by NTP, by an operator), or the machine was suspended. `ClockWatch` logs and counts such a
step, and calls back, so that requests waiting for a time of the wall clock set their timers anew.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from ratus.core.clock import SECOND, Clock
from ratus.core.durations import format_duration

logger = logging.getLogger("ratus")

# Seconds between two comparisons of the clocks. A task that became due because the clock was set is handed
# out at most this much later.
INTERVAL = 1.0

# Microseconds; a smaller difference is not taken for a step. NTP changes the pace of a clock by at most half
# a millisecond a second.
SMALLEST = SECOND // 5

# The wall clock is read between two readings of the monotonic clock. If these are more than `_SAME_MOMENT`
# microseconds apart (another process ran in between), the clocks are read again, `_READINGS` times at the
# most.
_SAME_MOMENT = SECOND // 1000
_READINGS = 5


class ClockWatch:
    """Compares the wall clock with the monotonic one every `INTERVAL` seconds, from `start` to `stop`.

    ``stepped`` is called after each step of the wall clock, from the event loop.
    """

    def __init__(self, clock: Clock, stepped: Callable[[], None]) -> None:
        self._clock = clock
        self._stepped = stepped
        self._difference = 0
        self._timer: asyncio.TimerHandle | None = None
        self.forward = 0
        """How often the wall clock was set forward."""
        self.back = 0
        """How often the wall clock was set back."""

    def start(self) -> None:
        """Read the clocks, so that later changes of their difference are steps, and start the timer."""
        self._difference = self._read()
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look_again)

    def stop(self) -> None:
        """Stop the timer. Without effect before `start`."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look(self) -> None:
        """Compare the clocks now. If the wall clock was set, log and count that, and call ``stepped``."""
        before, self._difference = self._difference, self._read()
        step = self._difference - before
        if abs(step) < SMALLEST:
            return
        if step > 0:
            self.forward += 1
        else:
            self.back += 1
        logger.warning(
            "the clock of this machine was set %s by %s; "
            "what is scheduled and what is claimed comes that much %s",
            "forward" if step > 0 else "back",
            format_duration(round(abs(step), -3)),
            "sooner" if step > 0 else "later",
        )
        self._stepped()

    def _look_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._look_again)
        self.look()

    def _read(self) -> int:
        """By how many microseconds the wall clock is ahead of the monotonic one."""
        best = None
        for _ in range(_READINGS):
            before = self._clock.monotonic()
            now = self._clock.now()
            after = self._clock.monotonic()
            reading = (after - before, now - (before + after) // 2)
            best = reading if best is None else min(best, reading)
            if best[0] <= _SAME_MOMENT:
                break
        assert best is not None, "the clocks were read"
        return best[1]
