"""Counts what a worker process executes, and writes down how long it took from the first to the last."""

from __future__ import annotations

import itertools
import json
import os
import time
from pathlib import Path

TASKS = int(os.environ.get("BENCH_TASKS", "0"))
RESULT = Path(os.environ.get("BENCH_RESULT", "result.json"))
REDIS_PORT = int(os.environ.get("BENCH_PORT", "6379"))


class Count:
    """Called once for each task executed; from many threads too, since `next` of a counter is one step."""

    def __init__(self) -> None:
        self._next = itertools.count(1).__next__
        self._first = 0.0

    def __call__(self) -> None:
        number = self._next()
        if number == 1:
            self._first = time.perf_counter()
        elif number == TASKS:
            # Renamed when it is whole, so that nobody reads half of it.
            part = RESULT.with_suffix(".part")
            part.write_text(json.dumps({"seconds": time.perf_counter() - self._first}))
            part.rename(RESULT)


count = Count()
