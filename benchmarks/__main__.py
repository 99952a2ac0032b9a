"""Measures Ratus and prints tables: without arguments the quick set, which answers the questions that have
bars in under five minutes.

  python -m benchmarks                      the quick set
  python -m benchmarks --full               everything, in under 45 minutes: tables, CSV files and plots
  python -m benchmarks http-rates growth    only these; with --full at full length
  python -m benchmarks --list               what there is, what it asks, how long it takes

Results of --full are collected in benchmarks/results, so that it can be run in parts; `python -m
benchmarks.page` makes docs/performance.md of them. Databases are put where TMPDIR says: name a disk, not
memory. Servers get the first core that this process may use, load generators the second; leave the machine
alone meanwhile.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks import bars, machine, results
from benchmarks.benchmark import Benchmark, Scale, Tables, Unavailable
from benchmarks.processes import end_on_signals
from benchmarks.progress import step
from benchmarks.suite import BENCHMARKS
from benchmarks.table import show

RESULTS = Path(__file__).parent / "results"
SLOWNESS = 4
"""A benchmark that takes so many times as long as it usually does has hung, or the machine is not fit."""
GRACE = 180
"""Seconds more, for what is installed once."""


def main(arguments: Sequence[str]) -> int:
    """See the module's text. The exit code: 1 when a benchmark failed, whatever the figures."""
    parser = _parser()
    given = parser.parse_args(arguments)
    names = [each.name for each in BENCHMARKS]
    if unknown := set(given.names) - set(names):
        parser.error(f"there is no {', '.join(sorted(unknown))}, only {', '.join(names)}")
    if given.list:
        _list()
        return 0
    scale = Scale.FULL if given.full else Scale.QUICK
    chosen = [each for each in BENCHMARKS if each.name in given.names] or [
        each for each in BENCHMARKS if scale in each.seconds
    ]
    folder = given.out or (RESULTS if given.full else None)
    end_on_signals()
    facts = machine.describe()
    for name, fact in facts.items():
        print(f"{name}: {fact}")
    # One that is not in the quick set is shorter than in full when it is asked for, nobody knows how much.
    expected = sum(each.seconds.get(scale, each.seconds[Scale.FULL]) for each in chosen)
    step(f"{', '.join(each.name for each in chosen)}: about {_length(expected)}")
    tables, failures = _measure(chosen, scale, facts, folder)
    judged = bars.judge(tables)
    if judged:
        show("bars", judged)
    if folder is not None:
        _plot(folder)
        print(f"\nresults: {os.path.relpath(folder)}")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _measure(
    chosen: Sequence[Benchmark], scale: Scale, facts: dict[str, str], folder: Path | None
) -> tuple[Tables, list[str]]:
    """All tables; and what failed, for the others are measured all the same."""
    found: Tables = {}
    failures: list[str] = []
    for number, benchmark in enumerate(chosen, start=1):
        step(f"--- {number} of {len(chosen)}: {benchmark.name}")
        try:
            with _limit(SLOWNESS * max(benchmark.seconds.values()) + GRACE):
                tables = benchmark.measure(scale)
        except Unavailable as error:
            failures.append(f"{benchmark.name} was not measured: {error}")
            continue
        except Exception as error:
            traceback.print_exc()
            failures.append(f"{benchmark.name} failed: {error}")
            continue
        found |= tables
        for name, rows in tables.items():
            if name not in benchmark.unprinted:
                show(name, rows)
        if folder is not None:
            results.save(folder, tables, scale, facts)
    return found, failures


@contextlib.contextmanager
def _limit(seconds: float) -> Iterator[None]:
    """Raise `TimeoutError` in the block when it takes too long; its processes are ended on the way out."""

    def end(number: int, frame: object) -> None:
        raise TimeoutError(f"it took more than {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _plot(folder: Path) -> None:
    from benchmarks import plots

    try:
        plots.draw(folder)
    except Unavailable as error:
        print(f"no plots: {error}", file=sys.stderr)


def _list() -> None:
    for benchmark in BENCHMARKS:
        lengths = ", ".join(f"{scale.value} {_length(each)}" for scale, each in benchmark.seconds.items())
        needs = f"; needs {', '.join(benchmark.needs)}" if benchmark.needs else ""
        print(f"{benchmark.name}\n    {benchmark.question}\n    {lengths}{needs}")


def _length(seconds: int) -> str:
    return f"{seconds} s" if seconds < 100 else f"{seconds / 60:.0f} minutes"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these; --list says which there are")
    parser.add_argument("--full", action="store_true", help="all engines, sizes and connection counts")
    parser.add_argument("--list", action="store_true", help="say what each benchmark asks, and end")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="write CSV files and plots there, also of a quick run"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
