"""Now, and waking up at a given time. The only place that reads the machine's clock.

Times are integers of microseconds since 1970-01-01 UTC. Everything else gets ``now`` as an argument, so
tests hand in a clock of their own and never sleep.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

SECOND = 1_000_000
MINUTE = 60 * SECOND

# A timer sleeps at most this long before it looks at the wall clock again, so that a clock that was set
# is noticed. Waking once a minute costs nothing.
LONGEST_SLEEP = 60.0


class Timer(Protocol):
    """A wake-up call that can be called off."""

    def cancel(self) -> None: ...


class Clock(Protocol):
    """Tells the time and wakes up."""

    def now(self) -> int:
        """Microseconds since 1970-01-01 UTC."""
        ...

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        """Call back at ``when`` or earlier: who is called looks at the clock and asks again if need be."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> int:
        return time.time_ns() // 1000

    def call_at(self, when: int, callback: Callable[[], None]) -> Timer:
        delay = min(max((when - self.now()) / SECOND, 0.0), LONGEST_SLEEP)
        return asyncio.get_running_loop().call_later(delay, callback)
