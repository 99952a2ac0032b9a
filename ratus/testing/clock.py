"""A clock that stands still until a test moves it.

    clock = ManualClock()
    api, service = build(settings, clock=clock)
    ...
    clock.advance(3 * SECOND)  # whatever was due within these three seconds is called now, in order
    clock.step(-3600 * SECOND)  # the wall clock is set back by an hour; no time has passed

Nothing sleeps, so a test of an hour of retries takes milliseconds and ends the same way every time.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable

# 2023-11-14T22:13:20Z: an ordinary time, and a round number that is easy to count from.
START = 1_700_000_000_000_000


class ManualTimer:
    """A timer of a `ManualClock`."""

    __slots__ = ("callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback: Callable[[], None] | None = callback

    def cancel(self) -> None:
        """Cancel the timer; without effect when it has rung already."""
        self.callback = None

    def ring(self) -> None:
        """Call the callback, unless the timer was cancelled or has rung already."""
        callback, self.callback = self.callback, None
        if callback is not None:
            callback()


class ManualClock:
    """A `ratus.core.clock.Clock` that moves only by `advance` and `step`.

    Times are microseconds, of the wall clock since 1970-01-01 UTC. Both clocks say the same until the wall
    clock is set by `step`.
    """

    def __init__(self, now: int = START) -> None:
        self._now = now
        self._monotonic = now
        # By the monotonic clock, as the machine's timers are.
        self._timers: list[tuple[int, int, ManualTimer]] = []
        self._asked = 0  # keeps timers of the same time in the order in which they were asked for

    def now(self) -> int:
        """The wall clock's time."""
        return self._now

    def monotonic(self) -> int:
        """The monotonic clock's time, which only `advance` moves."""
        return self._monotonic

    def call_at(self, when: int, callback: Callable[[], None]) -> ManualTimer:
        """Call back when the clock reaches ``when``; in the next turn of the event loop if it has already.

        As on a machine, the timer is set for the time until then, and knows nothing of a later `step`.
        """
        return self.call_at_monotonic(self._monotonic + when - self._now, callback)

    def call_at_monotonic(self, when: int, callback: Callable[[], None]) -> ManualTimer:
        """Call back when the monotonic clock reaches ``when``; in the next turn if it has already."""
        timer = ManualTimer(callback)
        if when <= self._monotonic:
            asyncio.get_running_loop().call_soon(timer.ring)
        else:
            self._asked += 1
            heapq.heappush(self._timers, (when, self._asked, timer))
        return timer

    def advance(self, microseconds: int) -> None:
        """Let time pass on both clocks, and call what falls due on the way: in order of time, the clocks
        standing at that time.

        Tasks that the callbacks start or wake run when the test next awaits; the clocks are then at their new
        time. Raises `ValueError` for a step back.
        """
        if microseconds < 0:
            raise ValueError(f"time cannot go back by {-microseconds} microseconds; set the clock with step")
        end = self._monotonic + microseconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._move(when)
            timer.ring()
        self._move(end)

    def step(self, microseconds: int) -> None:
        """Set the wall clock, forward or back (negative). No time passes, and no timer is called."""
        self._now += microseconds

    def pending(self) -> int:
        """How many timers have neither rung nor been cancelled."""
        return sum(timer.callback is not None for _, _, timer in self._timers)

    def _move(self, monotonic: int) -> None:
        self._now += monotonic - self._monotonic
        self._monotonic = monotonic
