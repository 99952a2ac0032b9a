"""Ratus by `App`: calls of a task function, pushed in batches and run by its worker."""

from __future__ import annotations

import itertools
import json
import os
import time

from benchmarks.end_to_end.peers.counting import RESULT, TASKS
from ratus import App, AppWorker

app = App(os.environ.get("BENCH_URL", "http://127.0.0.1:8000"), topic="bench")
_next = itertools.count(1).__next__
_begun: list[float] = []


@app.task(name="noop")
def noop() -> None:
    """Count, and stop the worker after the last task."""
    number = _next()
    if number == 1:
        _begun.append(time.perf_counter())
    elif number == TASKS:
        _workers[0].stop()


_workers: list[AppWorker] = []


def push() -> None:
    """Push in batches."""
    noop.push_many(() for _ in range(TASKS))


def work(concurrency: int) -> None:
    """Work with threads."""
    _workers.append(app.worker(concurrency=concurrency))
    _workers[0].run()
    part = RESULT.with_suffix(".part")
    part.write_text(json.dumps({"seconds": time.perf_counter() - _begun[0]}))
    part.rename(RESULT)
