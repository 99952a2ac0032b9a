"""The engines without HTTP: are they as fast with millions of tasks as with ten thousand?

Half of the tasks are due, half lie in the future; those have a higher priority, so that an engine that
looks at them first would crawl. Callers wait for the disk, as they do behind a server: one alone, or 64 at
once. Each case runs in a process of its own.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.sqlite.engine import SqliteEngine

from benchmarks import processes, services
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from ratus.core.records import CommitRecord, TaskQuery, TaskRecord
from ratus.core.selection import Selection
from ratus.engine import Engine

NOW = 1_800_000_000_000_000
HOUR = 3_600_000_000
PAYLOAD = b'{"to":"someone@example.com","subject":"hello","n":12345,"tags":["a","b"],"ok":true}'
TOPIC = "growth"
CALLERS = 64
BATCH = 1_000

SIZES: dict[Scale, dict[str, tuple[int, ...]]] = {
    Scale.SMOKE: {"memdb": (400,), "sqlite": (400,)},
    Scale.QUICK: {"memdb": (10_000, 100_000), "sqlite": (10_000, 100_000)},
    Scale.FULL: {
        "memdb": (10_000, 100_000, 1_000_000),
        "sqlite": (10_000, 100_000, 1_000_000, 10_000_000),
        "mongodb": (10_000, 100_000, 1_000_000),
    },
}
# Operations one after the other, by many at once, and reads by many at once; fewer where each waits for a
# replica set.
MEASURED = {"memdb": (500, 20_000, 2_000), "sqlite": (500, 20_000, 2_000), "mongodb": (200, 2_000, 500)}
WRITES = ("insert", "claim", "commit")


def measure(scale: Scale) -> Tables:
    """A row for each engine, size and operation."""
    rows: Rows = []
    sizes = SIZES[scale]
    for engine in services.available(list(sizes)):
        for size in sizes[engine]:
            step(f"{engine} with {size:,} tasks")
            with tempfile.TemporaryDirectory() as place:
                if engine == "mongodb":
                    with services.mongodb(Path(place)) as where:
                        rows += processes.call("benchmarks.growth", engine, size, where, core=SERVER_CORE)
                else:
                    where = str(Path(place) / "ratus.db")
                    # The writer of sqlite is a thread: both cores are used, as they would be.
                    rows += processes.call("benchmarks.growth", engine, size, where)
    return {"growth": rows}


def make(engine: str, where: str) -> Engine:
    """An engine by its name; ``where`` is the path of its file or the address of its server."""
    if engine == "memdb":
        return MemdbEngine()
    if engine == "sqlite":
        return SqliteEngine(path=where)
    from ratus_engines.mongodb.engine import MongodbEngine

    return MongodbEngine(where, database="ratus_benchmark")


def _task(name: str, scheduled: int, priority: int = 0) -> TaskRecord:
    return TaskRecord(name, TOPIC, NOW, scheduled, payload=PAYLOAD, priority=priority)


Operation = Callable[[int], Awaitable[object]]


async def _alone(operation: Operation, numbers: range) -> tuple[float, float]:
    """Median and 99th percentile of one after the other, in milliseconds."""
    times = []
    for number in numbers:
        started = time.perf_counter()
        await operation(number)
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times), statistics.quantiles(times, n=100)[98]


async def _crowd(operation: Operation, numbers: range) -> float:
    """Operations a second of many callers."""
    left = iter(numbers)

    async def caller() -> None:
        for number in left:
            await operation(number)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    return len(numbers) / (time.perf_counter() - started)


async def _fill(engine: Engine, size: int) -> float:
    """Insert due and future tasks; tasks a second."""
    started = time.perf_counter()
    half = size // 2
    for start in range(0, half, BATCH):
        numbers = range(start, min(start + BATCH, half))
        await engine.insert([_task(f"due-{n}", NOW - half + n) for n in numbers], NOW)
        await engine.insert([_task(f"future-{n}", NOW + HOUR + n, 5) for n in numbers], NOW)
    return 2 * half / (time.perf_counter() - started)


async def _case(name: str, size: int, where: str) -> Rows:
    """Every operation among so many tasks."""
    engine = make(name, where)
    await engine.open(NOW)
    filled = await _fill(engine, size)
    # What the system has not written yet would stand before the first syncs.
    await asyncio.to_thread(os.sync)
    claimed: list[TaskRecord] = []

    async def claim(number: int) -> None:
        claimed.extend(await engine.claim(Selection((TOPIC,), NOW + HOUR, "c"), NOW + number))

    async def commit(number: int) -> None:
        await engine.commit([CommitRecord(claimed[number].id, claimed[number].nonce)], NOW + HOUR)

    async def insert_many(number: int) -> None:
        await engine.insert([_task(f"many-{number}-{n}", NOW + HOUR) for n in range(BATCH)], NOW)

    operations: dict[str, Operation] = {
        "insert": lambda n: engine.insert([_task(f"new-{n}", NOW + HOUR, 5)], NOW),
        "claim": claim,
        "commit": commit,
        "read": lambda n: engine.get(f"future-{n % (size // 2)}"),
        "empty claim": lambda n: engine.claim(Selection(("nothing",), NOW + HOUR), NOW),
        "topic with counts": lambda n: engine.get_topic(TOPIC, NOW + n),
        "list of 10": lambda n: engine.list_tasks(TaskQuery(TOPIC, 10, offset=n % 100)),
    }
    one, writes, reads = MEASURED[name]
    rows: Rows = []
    for operation, work in operations.items():
        # Claims take half of the due ones; commits what was claimed.
        few = min(one, size // 8)
        many = writes if operation in WRITES else reads
        most = {"claim": size // 4, "commit": len(claimed)}.get(operation, many + few)
        p50, p99 = await _alone(work, range(few))
        rate = await _crowd(work, range(few, min(most, many + few)))
        rows.append(_row(name, size, operation, p50, p99, rate))
    p50, p99 = await _alone(insert_many, range(10))
    rows.append(_row(name, size, f"insert by {BATCH:,}", p50, p99, filled))
    await engine.close(NOW)
    return rows


def _row(engine: str, size: int, operation: str, p50: float, p99: float, rate: float) -> Row:
    return {
        "engine": engine,
        "tasks": size,
        "operation": operation,
        "alone p50 ms": p50,
        "alone p99 ms": p99,
        f"per s, {CALLERS} at once": rate,
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_case(sys.argv[1], int(sys.argv[2]), sys.argv[3]))))
