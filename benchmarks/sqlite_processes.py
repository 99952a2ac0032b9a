"""Several processes on one SQLite file: what each gets, and how long the unluckiest waits.

Each process has 64 callers that insert one task after the other, every answer on disk. There is one writer
at a time, so more processes are for more connections, not for more writes.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from ratus_engines.sqlite.engine import SqliteEngine

from benchmarks import processes
from benchmarks.benchmark import Row, Rows, Scale, Tables
from benchmarks.progress import step
from ratus.core.records import TaskRecord

NOW = 1_800_000_000_000_000
CALLERS = 64


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    processes: tuple[int, ...]
    tasks: int
    """For each process."""


SIZES = {
    Scale.SMOKE: Sizes((2,), 200),
    Scale.QUICK: Sizes((1, 2), 10_000),
    Scale.FULL: Sizes((1, 2, 3), 20_000),
}


def measure(scale: Scale) -> Tables:
    """A row for each process."""
    sizes = SIZES[scale]
    rows: Rows = []
    for count in sizes.processes:
        step(f"{count} processes insert into one file")
        with tempfile.TemporaryDirectory() as folder:
            rows += _together(count, sizes.tasks, Path(folder) / "ratus.db")
    return {"sqlite-processes": rows}


def _together(count: int, tasks: int, path: Path) -> Rows:
    started = []
    rows: Rows = []
    try:
        for number in range(count):
            command = [
                sys.executable,
                "-m",
                "benchmarks.sqlite_processes",
                path,
                f"process-{number}",
                str(tasks),
            ]
            started.append(processes.start(command, stdout=subprocess.PIPE))
        for process in started:
            found, _ = process.communicate(timeout=processes.COMMAND_SECONDS)
            if process.returncode:
                raise RuntimeError(f"a process that inserts ended with {process.returncode}")
            rows.append({"processes": count, **json.loads(found)})
    finally:
        for process in started:
            processes.stop(process)
    return rows


async def _case(path: str, name: str, tasks: int) -> Row:
    """What one process gets."""
    engine = SqliteEngine(path=path)
    await engine.open(NOW)
    numbers = iter(range(tasks))
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
        "inserts/s": tasks / seconds,
        "p50 ms": statistics.median(waits),
        "p99 ms": statistics.quantiles(waits, n=100)[98],
        "longest ms": max(waits),
    }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_case(sys.argv[1], sys.argv[2], int(sys.argv[3])))))
