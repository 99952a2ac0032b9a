"""The SQLite engine without HTTP: does it stay as fast with two million tasks as with two thousand?

    python -m benchmarks.sqlite_scale [TASKS ...]

For each number, as many tasks are due and as many lie in the future, those with a higher priority. Callers
wait for the disk, as they do behind a server: one alone, or 64 at once.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from benchmarks.table import show
from ratus.engine import Engine
from ratus.records import Claim, CommitRecord, TaskQuery, TaskRecord

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
PAYLOAD = b'{"to":"someone@example.com","subject":"hello","n":12345,"tags":["a","b"],"ok":true}'
ALONE = 500
CROWD = 64
CROWDED = 20_000


def task(name: str, scheduled: int, priority: int = 0) -> TaskRecord:
    return TaskRecord(name, "benchmark", NOW, scheduled, payload=PAYLOAD, priority=priority)


async def alone(operation: Callable[[int], Awaitable[object]], count: int = ALONE) -> tuple[float, float]:
    """Median and 99th percentile of one after the other, in milliseconds."""
    times = []
    for number in range(count):
        started = time.perf_counter()
        await operation(number)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


async def crowd(operation: Callable[[int], Awaitable[object]], count: int = CROWDED) -> float:
    """Operations a second of 64 callers."""
    numbers = iter(range(count))

    async def caller() -> None:
        for number in numbers:
            await operation(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CROWD)))
    return count / (time.perf_counter() - started)


async def fill(engine: Engine, size: int) -> float:
    """Insert due and future tasks; tasks a second."""
    started = time.perf_counter()
    for start in range(0, size, 1000):
        numbers = range(start, min(start + 1000, size))
        await engine.insert([task(f"due-{n}", NOW - size + n) for n in numbers], NOW)
        await engine.insert([task(f"future-{n}", NOW + HOUR + n, 5) for n in numbers], NOW)
    return 2 * size / (time.perf_counter() - started)


async def measure(engine: Engine, size: int) -> list[dict[str, Any]]:
    """Every operation among ``size`` due and ``size`` future tasks."""
    await engine.open(NOW)
    rows: list[dict[str, Any]] = []
    filled = await fill(engine, size)
    # What the system has not written yet would stand before the first syncs.
    await asyncio.to_thread(os.sync)
    claimed: list[TaskRecord] = []

    async def claim(number: int) -> None:
        claimed.extend(await engine.claim(Claim(("benchmark",), NOW + HOUR, "c"), NOW + number))

    async def insert_many(number: int) -> None:
        await engine.insert([task(f"many-{number}-{n}", NOW + HOUR) for n in range(1000)], NOW)

    async def commit(number: int) -> None:
        await engine.commit([CommitRecord(claimed[number].id, claimed[number].nonce)], NOW + HOUR)

    operations: dict[str, tuple[Callable[[int], Awaitable[object]], bool]] = {
        "topic, first": (lambda n: engine.get_topic("benchmark", NOW + n), False),
        "insert": (lambda n: engine.insert([task(f"new-{n}", NOW + HOUR, 5)], NOW), True),
        "claim": (claim, True),
        "commit": (commit, True),
        "read": (lambda n: engine.get(f"future-{n % size}"), True),
        "empty claim": (lambda n: engine.claim(Claim(("nothing",), NOW + HOUR), NOW), True),
        "next due": (lambda n: engine.next_due("benchmark"), False),
        "topic": (lambda n: engine.get_topic("benchmark", NOW + n), False),
        "list": (lambda n: engine.list_tasks(TaskQuery("benchmark", 10, offset=n)), False),
        "list by consumer": (lambda n: engine.list_tasks(TaskQuery("benchmark", 10, consumer="c")), False),
    }
    for name, (operation, crowded) in operations.items():
        few = min(ALONE, size // 4)
        count = {"topic, first": 2, "claim": few, "commit": few}.get(name, ALONE)
        median, worst = await alone(operation, count)
        rate: float | str = ""
        if crowded:
            available = {"claim": size // 2, "commit": len(claimed) - count}.get(name, CROWDED)

            def shifted(number: int, operation: Any = operation, by: int = count) -> Awaitable[object]:
                awaitable: Awaitable[object] = operation(number + by)
                return awaitable

            rate = await crowd(shifted, min(available, CROWDED))
        rows.append(row(engine, size, name, median, worst, rate))
    rows.append(row(engine, size, "insert by 1000", *await alone(insert_many, 20), filled))
    await engine.close(NOW)
    return rows


def row(
    engine: Engine, size: int, name: str, median: float, worst: float, rate: float | str
) -> dict[str, Any]:
    """What was measured of one operation."""
    return {
        "engine": engine.traits.name,
        "due and future": size,
        "operation": name,
        "alone: p50 ms": median,
        "p99 ms": worst,
        "64 at once: per s": rate,
    }


def run(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """All rows."""
    rows: list[dict[str, Any]] = []
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            for engine in (MemdbEngine(), SqliteEngine(path=str(Path(folder) / "ratus.db"))):
                rows += asyncio.run(measure(engine, size))
    return rows


if __name__ == "__main__":
    show("SQLite at scale", run(tuple(map(int, sys.argv[1:])) or (1_000, 1_000_000)))
