"""Fails when an operation of the hot paths costs clearly more instructions than the baseline says.

  python -m benchmarks.guard              compare, in 15 s; exit code 1 when something is slower
  python -m benchmarks.guard --refresh    make what is counted now the baseline, after a change that is meant

It needs valgrind and a C compiler. The baseline is benchmarks/baseline.json; a cost is in rounds of a
calibration loop, so it holds on any machine, and there is a baseline for each version of Python.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.benchmark import Unavailable
from benchmarks.guard import counting
from benchmarks.processes import end_on_signals
from benchmarks.table import show


def main(arguments: Sequence[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--refresh", action="store_true", help="write the baseline anew")
    given = parser.parse_args(arguments)
    end_on_signals()
    baseline = counting.load() or {}
    if not baseline and not given.refresh:
        return _fail(
            f"benchmarks/baseline.json has nothing for Python {counting.VERSION}: run it with --refresh on a "
            "commit that is known to be good"
        )
    try:
        found = counting.count()
    except Unavailable as error:
        return _fail(str(error))
    rows = counting.compare(found, baseline)
    show(f"instructions, Python {counting.VERSION}", rows)
    if given.refresh:
        counting.save(found)
        print(f"\nwritten: {counting.BASELINE.relative_to(counting.BASELINE.parent.parent)}")
        return 0
    wrong = [row["operation"] for row in rows if row["verdict"] not in ("", "faster")]
    if wrong:
        return _fail(
            f"{', '.join(wrong)}: compare with the baseline's commit. If this cost is meant, run "
            "python -m benchmarks.guard --refresh and commit the baseline with the change"
        )
    if any(row["verdict"] == "faster" for row in rows):
        print("\nfaster than the baseline: refresh it, or the gain can be lost without notice")
    return 0


def _fail(message: str) -> int:
    print(f"guard: {message}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
