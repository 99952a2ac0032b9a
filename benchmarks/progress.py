"""Tells on standard error what is being measured, so that nobody takes a long run for a stuck one."""

from __future__ import annotations

import sys
import time

_started = time.monotonic()


def step(text: str) -> None:
    """Say what is done next, and how long the run has taken so far."""
    minutes, seconds = divmod(int(time.monotonic() - _started), 60)
    print(f"[{minutes:2d}:{seconds:02d}] {text}", file=sys.stderr, flush=True)
