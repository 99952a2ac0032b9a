"""Snapshots of memdb: how long reading one takes, and what writing one does to requests meanwhile."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from ratus_engines.memdb.engine import MemdbEngine

from benchmarks.engines import HOUR, NOW, tasks
from ratus.records import Claim, TaskRecord


async def _operate(engine: MemdbEngine, delays: list[float], stop: asyncio.Event) -> None:
    """Insert and claim as requests would, one a turn of the loop, and note how long each had to wait."""
    number = 0
    while not stop.is_set():
        started = time.perf_counter()
        await asyncio.sleep(0)
        await engine.insert([TaskRecord(f"load-{number}", "load", NOW, NOW, payload=b"1")], NOW)
        await engine.claim(Claim(("load",), NOW + HOUR), NOW)
        delays.append(time.perf_counter() - started)
        number += 1


async def measure(size: int) -> dict[str, Any]:
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
        del engine

        again = MemdbEngine(snapshot_path=str(path))
        started = time.perf_counter()
        await again.open(NOW)
        delays.sort()
        return {
            "tasks": size,
            "write s": written,
            "requests meanwhile": len(delays),
            "p99 ms": delays[int(len(delays) * 0.99)] * 1000,
            "longest ms": delays[-1] * 1000,
            "MB": path.stat().st_size / 1e6,
            "read s": time.perf_counter() - started,
        }


def run(sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """One row a size."""
    return [asyncio.run(measure(size)) for size in sizes]
