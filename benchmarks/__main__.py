"""Runs the benchmarks and prints tables: a quick set by default, everything with ``--full``."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import batches, engines, http, snapshots, waiting
from benchmarks.table import save, show

Rows = list[dict[str, Any]]

RESULTS = Path(__file__).parent / "results"

QUICK: dict[str, Callable[[], Rows]] = {
    "engines": lambda: engines.run((10_000, 100_000, 1_000_000)),
    "snapshots": lambda: snapshots.run((100_000, 1_000_000)),
    "waiting": lambda: waiting.run(1000),
    "batches": batches.run,
    "http": lambda: http.run((64,), rounds=1, seconds=2.0),
}
FULL: dict[str, Callable[[], Rows]] = QUICK | {
    "http": lambda: http.run((1, 16, 64, 256), rounds=5, seconds=5.0),
}


def main() -> None:
    """See the module's text."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*QUICK, []], help="which to run; all by default")
    parser.add_argument("--full", action="store_true", help="all sizes and connection counts, into results/")
    arguments = parser.parse_args()
    # The children must find the same packages, installed or not.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    print(f"{platform.platform()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    suite = FULL if arguments.full else QUICK
    for name in arguments.only or suite:
        rows = suite[name]()
        show(name, rows)
        if arguments.full:
            save(RESULTS / f"{name}.csv", rows)


if __name__ == "__main__":
    main()
