"""The memory engine without HTTP: the cost of an operation and the memory of a task as their number grows.

Once with tasks that are scheduled in the order in which they come in, as most queues have it, and once at
random. Each case runs in a process of its own, so that memory is measured from empty and nothing is left
over. Of an operation's windows the best counts: what disturbs a shared machine only ever adds.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

from ratus_engines.memdb.engine import MemdbEngine

from benchmarks import processes
from benchmarks.benchmark import Row, Scale, Tables
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from ratus.core.records import CommitRecord, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Engine

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
PAYLOAD_BYTES = 100
MEASURED = 50_000
"""Operations measured at each size; more tell nothing new."""
WINDOWS = 10

SIZES = {
    Scale.SMOKE: (300,),
    Scale.QUICK: (10_000, 100_000),
    Scale.FULL: (10_000, 100_000, 1_000_000),
}
ORDERS = ("in order", "at random")


def measure(scale: Scale) -> Tables:
    """A row for each size and order."""
    rows = []
    for order in ORDERS:
        for size in SIZES[scale]:
            step(f"{size:,} tasks scheduled {order}")
            rows.append(processes.call("benchmarks.engines", size, order, core=SERVER_CORE))
    return {"engines": rows}


def tasks(count: int, schedule: Callable[[int], int]) -> list[TaskRecord]:
    """Tasks as a request would make them: nothing is shared between two."""
    return [
        TaskRecord(
            f"task-{number:08d}",
            "benchmark",
            NOW + number,
            schedule(number),
            payload=b'"%0*d"' % (PAYLOAD_BYTES - 2, number),
        )
        for number in range(count)
    ]


async def _case(size: int, order: str) -> Row:
    """Fill an engine with ``size`` tasks, then insert, claim and commit among them."""
    generator = random.Random(size)

    def schedule(number: int) -> int:
        return NOW + number if order == "in order" else NOW - generator.randrange(HOUR)

    engine: Engine = MemdbEngine()
    await engine.open(NOW)
    gc.collect()
    empty = processes.resident(os.getpid())
    for task in tasks(size, schedule):
        await engine.insert([task], NOW)
    gc.collect()
    gc.freeze()
    pending = (processes.resident(os.getpid()) - empty) / size

    count = min(MEASURED, size)
    insert = await _insert_more(engine, count, schedule)

    now = NOW + size
    claimed: list[TaskRecord] = []

    async def claim_one(n: int) -> None:
        claimed.extend(await engine.claim(Selection(("benchmark",), now + HOUR + n, "consumer"), now + n))

    claim = await _best(count, claim_one)
    for n in range(count, size):
        await engine.claim(Selection(("benchmark",), now + HOUR + n, "consumer"), now + n)
    gc.collect()
    active = (processes.resident(os.getpid()) - empty) / size
    commits = [CommitRecord(task.id, task.nonce) for task in claimed]
    commit = await _best(count, lambda n: engine.commit([commits[n]], now + size + n))
    return {
        "tasks": size,
        "scheduled": order,
        "insert us": insert,
        "claim us": claim,
        "commit us": commit,
        "pending B": round(pending),
        "active B": round(active),
    }


async def _insert_more(engine: Engine, count: int, schedule: Callable[[int], int]) -> float:
    """Insert some more tasks and delete them again; microseconds an insert takes."""
    more = [TaskRecord(f"more-{n}", "benchmark", NOW, schedule(n), payload=b"1") for n in range(count)]
    cost = await _best(count, lambda n: engine.insert([more[n]], NOW))
    for task in more:
        await engine.delete_task(task.id)
    return cost


async def _best(count: int, operation: Callable[[int], Any]) -> float:
    """Microseconds an operation takes, in the best of some windows."""
    window = max(1, count // WINDOWS)
    best = float("inf")
    for start in range(0, count - window + 1, window):
        started = time.perf_counter()
        for number in range(start, start + window):
            await operation(number)
        best = min(best, time.perf_counter() - started)
    return best / window * 1e6


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_case(int(sys.argv[1]), sys.argv[2]))))
