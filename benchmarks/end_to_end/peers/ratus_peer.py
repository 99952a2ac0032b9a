"""Ratus: pushed in batches, worked on by the synchronous or the asynchronous client."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import time

from benchmarks.end_to_end.peers.counting import RESULT, TASKS
from ratus import AsyncClient, AsyncDelivery, Client, Delivery, Task

URL = os.environ.get("BENCH_URL", "http://127.0.0.1:8000")
TOPIC = "bench"


class Run:
    """Counts tasks, and tells when the last was begun."""

    def __init__(self, client: Client | AsyncClient) -> None:
        self._client = client
        # `next` of a counter is one step; threads that add to a number lose some.
        self._next = itertools.count(1).__next__
        self._first = 0.0

    def count(self) -> None:
        """One more task."""
        number = self._next()
        if number == 1:
            self._first = time.perf_counter()
        elif number == TASKS:
            self._client.stop()

    def write(self) -> None:
        """Every commit is with the server by now: more than is asked of the others."""
        part = RESULT.with_suffix(".part")
        part.write_text(json.dumps({"seconds": time.perf_counter() - self._first}))
        part.rename(RESULT)


def push() -> None:
    """Push in batches."""
    with Client(URL) as ratus:
        ratus.insert_tasks((Task(id=str(n)) for n in range(TASKS)), topic=TOPIC)


def work(concurrency: int) -> None:
    """Work with threads."""
    with Client(URL) as ratus:
        run = Run(ratus)

        def handle(delivery: Delivery) -> None:
            run.count()

        ratus.subscribe(TOPIC, handle, concurrency=concurrency)
        run.write()


def work_async(concurrency: int) -> None:
    """Work with coroutines."""
    asyncio.run(_work_async(concurrency))


async def _work_async(concurrency: int) -> None:
    async with AsyncClient(URL) as ratus:
        run = Run(ratus)

        async def handle(delivery: AsyncDelivery) -> None:
            run.count()

        await ratus.subscribe(TOPIC, handle, concurrency=concurrency)
        run.write()
