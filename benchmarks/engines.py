"""Engines without HTTP: the cost of an operation and the memory of a task as the number of tasks grows.

Each case runs in a process of its own, so that memory is measured from empty and nothing is left over.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ratus.engine import Engine
from ratus.records import Claim, CommitRecord, TaskRecord

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
PAYLOAD_BYTES = 100
# Operations measured at each size; more tell nothing new.
MEASURED = 50_000
# The best of so many windows counts: what disturbs a shared machine only ever adds.
WINDOWS = 10


def resident() -> int:
    """Bytes of memory this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


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


async def measure(size: int, order: str) -> dict[str, Any]:
    """Fill an engine with ``size`` tasks, then insert, claim and commit among them."""
    from ratus_engines.memdb.engine import MemdbEngine

    generator = random.Random(size)

    def schedule(number: int) -> int:
        return NOW + number if order == "in order" else NOW - generator.randrange(HOUR)

    engine: Engine = MemdbEngine()
    await engine.open(NOW)
    gc.collect()
    empty = resident()
    for task in tasks(size, schedule):
        await engine.insert([task], NOW)
    gc.collect()
    gc.freeze()
    pending = (resident() - empty) / size

    count = min(MEASURED, size)
    insert = await _insert_more(engine, count, schedule)

    now = NOW + size
    claimed: list[TaskRecord] = []

    async def claim_one(n: int) -> None:
        claimed.extend(await engine.claim(Claim(("benchmark",), now + HOUR + n, "consumer"), now + n))

    claim = await _best(count, claim_one)
    for n in range(count, size):
        await engine.claim(Claim(("benchmark",), now + HOUR + n, "consumer"), now + n)
    gc.collect()
    active = (resident() - empty) / size
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


def run(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Every case in a process of its own."""
    rows = []
    for order in ("in order", "at random"):
        for size in sizes:
            command = [sys.executable, "-m", "benchmarks.engines", str(size), order]
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            rows.append(json.loads(done.stdout))
    return rows


if __name__ == "__main__":
    print(json.dumps(asyncio.run(measure(int(sys.argv[1]), sys.argv[2]))))
