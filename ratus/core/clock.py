"""The two clocks of the machine, and timers on each. The only place that reads them for the server.

- The *wall clock* says what time it is: integers of microseconds since 1970-01-01 UTC. What is scheduled,
  falls due, lapses or expires follows it. An operator or NTP may set it, forward or back.
- The *monotonic clock* says how much time has passed: integers of microseconds since some moment. It is never
  set. Every wait, pause and time-out follows it.

Everything else gets ``now`` as an argument, so tests hand in a clock of their own and never sleep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND

# A timer of the wall clock sleeps at most this many seconds before it looks at that clock again. Waking once
# a minute costs nothing. A clock that was set is noticed sooner than that: see `ratus.runtime.clock_watch`.
LONGEST_SLEEP = 60.0


class Timer(Protocol):
    """A pending callback that can be cancelled."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Both clocks, and timers on them."""

    def now(self) -> int:
        """The wall clock: microseconds since 1970-01-01 UTC."""
        ...

    def monotonic(self) -> int:
        """The monotonic clock: microseconds since a moment that does not change while the process lives."""
        ...

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, when the wall clock reaches ``when``, or earlier.

        The callback reads the clock, and sets another timer if it came early. It may come late where the
        clock was set meanwhile.
        """
        ...

    def call_at_monotonic(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call ``callback`` once, when the monotonic clock reaches ``when`` or earlier, as with `call_at`."""
        ...


class SystemClock:
    """The machine's clocks. A timer runs its callback in an empty context (`contextvars`).

    The context of the request that set the timer is not used, as that request may be over by then.
    """

    def now(self) -> int:
        return time.time_ns() // 1000

    def monotonic(self) -> int:
        return time.monotonic_ns() // 1000

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        delay = min(max((when - self.now()) / SECOND, 0.0), LONGEST_SLEEP)
        return asyncio.get_running_loop().call_later(delay, callback, context=Context())

    def call_at_monotonic(self, when: int, callback: Callable[[], None]) -> Timer:
        delay = max((when - self.monotonic()) / SECOND, 0.0)
        return asyncio.get_running_loop().call_later(delay, callback, context=Context())
