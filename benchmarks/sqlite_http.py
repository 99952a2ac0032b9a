"""The SQLite engine over HTTP, with every answer on disk, as ratios to the memory engine in the same run.

    python -m benchmarks.sqlite_http [ROUNDS]

The server has one core, the load generator another. Each round measures both engines once, one after the
other; the median of the rounds' ratios counts. The time one sync takes on this disk is printed first: it
bounds what a single connection can get.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.http import claim_all, free_port, prepare, ratus, server, wrk
from benchmarks.table import show

CONNECTIONS = 64
SECONDS = 3.0
# More than the faster engine gets through.
PREPARED = 100_000
LOADS = (("insert", 1), ("claim", 1), ("commit", 1), ("insert-batch", 1000))


def sync_milliseconds(folder: Path) -> float:
    """How long a small write and its sync take, in the middle of some hundred."""
    times = []
    with (folder / "sync").open("wb") as file:
        for _ in range(300):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            file.flush()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def load(address: str, what: str, size: int, name: str, folder: Path) -> dict[str, Any]:
    """Prepare and measure one load; its rate in tasks a second."""
    arguments = [what, name]
    if what == "claim":
        prepare(address, name, PREPARED)
    elif what == "commit":
        prepare(address, name, PREPARED)
        claim_all(address, name, PREPARED, folder / name)
        arguments.append(str(folder / name))
    if size > 1:
        arguments.append(str(size))
    figures = wrk(address, min(CONNECTIONS, 8) if size > 1 else CONNECTIONS, SECONDS, *arguments)
    figures["rate"] *= size
    return figures


def run(rounds: int) -> list[dict[str, Any]]:
    """One row for each load."""
    found: dict[str, list[tuple[dict[str, Any], dict[str, Any]]]] = {what: [] for what, _ in LOADS}
    with tempfile.TemporaryDirectory(dir=os.environ.get("BENCH_FOLDER")) as name:
        folder = Path(name)
        print(f"one sync: {sync_milliseconds(folder):.3f} ms")
        for number in range(rounds):
            for what, size in LOADS:
                pair = []
                for engine in ("memdb", "sqlite"):
                    port = free_port()
                    path = folder / f"{engine}-{what}-{number}.db"
                    command = ratus(port, "--engine", engine, "--sqlite-path", str(path))
                    with server(command, port) as address:
                        pair.append(load(address, what, size, f"{engine}-{what}{number}", folder))
                    path.unlink(missing_ok=True)
                found[what].append((pair[0], pair[1]))
    return [
        {
            "operation": what,
            "memdb per s": statistics.median(memdb["rate"] for memdb, _ in pairs),
            "sqlite per s": statistics.median(sqlite["rate"] for _, sqlite in pairs),
            "ratio": statistics.median(sqlite["rate"] / memdb["rate"] for memdb, sqlite in pairs),
            "p50 ms": statistics.median(sqlite["p50"] for _, sqlite in pairs) / 1000,
            "p99 ms": statistics.median(sqlite["p99"] for _, sqlite in pairs) / 1000,
            "refused": sum(each["non2xx"] + each["errors"] for pair in pairs for each in pair),
        }
        for what, pairs in found.items()
    ]


if __name__ == "__main__":
    os.environ.setdefault("PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
    show("SQLite over HTTP", run(int(sys.argv[1]) if len(sys.argv) > 1 else 3))
