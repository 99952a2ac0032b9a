"""Snapshots of the memory engine: how long writing and reading one take, and what writing does to operations.

The operations are those of a request without HTTP, one a turn of the loop; `http-million` asks the same of
real requests.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from ratus_engines.memdb.engine import MemdbEngine

from benchmarks import processes
from benchmarks.benchmark import Row, Scale, Tables
from benchmarks.engines import HOUR, NOW, tasks
from benchmarks.processes import SERVER_CORE
from benchmarks.progress import step
from benchmarks.statistic import percentile
from ratus.core.records import TaskRecord
from ratus.core.selection import Selection

SIZES = {
    Scale.SMOKE: (300,),
    Scale.QUICK: (100_000,),
    Scale.FULL: (10_000, 100_000, 1_000_000),
}


def measure(scale: Scale) -> Tables:
    """A row for each size."""
    rows = []
    for size in SIZES[scale]:
        step(f"a snapshot of {size:,} tasks")
        rows.append(processes.call("benchmarks.snapshots", size, core=SERVER_CORE))
    return {"snapshots": rows}


async def _operate(engine: MemdbEngine, delays: list[float], stop: asyncio.Event) -> None:
    """Insert and claim as requests would, and note how long each had to wait."""
    number = 0
    while not stop.is_set():
        started = time.perf_counter()
        await asyncio.sleep(0)
        await engine.insert([TaskRecord(f"load-{number}", "load", NOW, NOW, payload=b"1")], NOW)
        await engine.claim(Selection(("load",), NOW + HOUR), NOW)
        delays.append((time.perf_counter() - started) * 1000)
        number += 1


async def _case(size: int) -> Row:
    """Write a snapshot of so many tasks under load, and read it again."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "snapshot"
        engine = MemdbEngine(snapshot_path=str(path), snapshot_interval=0)
        await engine.open(NOW)
        for task in tasks(size, lambda number: NOW + number):
            await engine.insert([task], NOW)

        delays: list[float] = []
        stop = asyncio.Event()
        load = asyncio.create_task(_operate(engine, delays, stop))
        started = time.perf_counter()
        await engine.maintain(NOW)
        written = time.perf_counter() - started
        stop.set()
        await load
        size_on_disk = path.stat().st_size
        # Lets go of the file, with a last snapshot.
        await engine.close(NOW)
        del engine

        again = MemdbEngine(snapshot_path=str(path))
        started = time.perf_counter()
        await again.open(NOW)
        read = time.perf_counter() - started
        await again.close(NOW)
        delays.sort()
        return {
            "tasks": size,
            "write s": written,
            "operations meanwhile": len(delays),
            "p50 ms": percentile(delays, 50),
            "p99 ms": percentile(delays, 99),
            "longest ms": delays[-1],
            "MB": size_on_disk / 1e6,
            "read s": read,
        }


if __name__ == "__main__":
    print(json.dumps(asyncio.run(_case(int(sys.argv[1])))))
