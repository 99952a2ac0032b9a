"""Several processes on one SQLite file: what each gets, and how long the unluckiest waits.

    python -m benchmarks.sqlite_processes [PROCESSES ...]

Each process has 64 callers that insert one task after the other, every answer on disk.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from ratus_engines.sqlite.engine import SqliteEngine

from benchmarks.table import show
from ratus.records import TaskRecord

NOW = 1_800_000_000_000_000
CALLERS = 64
TASKS = 20_000


async def insert(path: str, name: str) -> dict[str, float]:
    """What one process gets."""
    engine = SqliteEngine(path=path)
    await engine.open(NOW)
    numbers = iter(range(TASKS))
    waits: list[float] = []

    async def caller() -> None:
        for number in numbers:
            started = time.perf_counter()
            task = TaskRecord(f"{name}-{number}", "benchmark", NOW, NOW, payload=b"1" * 100)
            await engine.insert([task], NOW)
            waits.append((time.perf_counter() - started) * 1000)

    started = time.perf_counter()
    await asyncio.gather(*(caller() for _ in range(CALLERS)))
    seconds = time.perf_counter() - started
    await engine.close(NOW)
    return {
        "per s": TASKS / seconds,
        "p50 ms": statistics.median(waits),
        "p99 ms": statistics.quantiles(waits, n=100)[98],
        "longest ms": max(waits),
    }


def run(counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row for each process."""
    rows: list[dict[str, Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "-m", "benchmarks.sqlite_processes", str(Path(folder) / "ratus.db")]
            processes = [
                subprocess.Popen([*command, f"process {n}"], stdout=subprocess.PIPE) for n in range(count)
            ]
            for process in processes:
                found, _ = process.communicate()
                rows.append({"processes": count, **json.loads(found)})
    return rows


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[2].startswith("process"):
        print(json.dumps(asyncio.run(insert(sys.argv[1], sys.argv[2]))))
    else:
        show("Processes on one SQLite file", run(tuple(map(int, sys.argv[1:])) or (1, 2, 3)))
