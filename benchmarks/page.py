"""Writes the figures of docs/performance.md from CSV files: the page cannot say what was not measured.

  python -m benchmarks.page                       from docs/performance, the run that the page shows
  python -m benchmarks.page benchmarks/results    take this run over first, and draw its plots
  python -m benchmarks.page --check               write nothing; exit code 1 if the page is not up to date

What stands in the page between `<!-- figures: NAME -->` and `<!-- end -->` is written; `VIEWS` has the names.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from benchmarks import bars, plots, results, table
from benchmarks.benchmark import Row, Rows, Tables
from benchmarks.end_to_end.queues import QUEUES
from benchmarks.processes import ROOT

PAGE = ROOT / "docs" / "performance.md"
REFERENCE = ROOT / "docs" / "performance"
BLOCK = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.page",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", nargs="?", type=Path, metavar="FOLDER", help="a run to take over")
    parser.add_argument("--check", action="store_true", help="only say whether the page is up to date")
    given = parser.parse_args(arguments)
    if given.run is not None and not given.check:
        take_over(given.run)
        plots.draw(REFERENCE)
    written = PAGE.read_text(encoding="utf-8")
    wanted = fill(written, REFERENCE)
    if given.check:
        if written != wanted:
            print(f"{PAGE.relative_to(ROOT)}: run python -m benchmarks.page", file=sys.stderr)
            return 1
    elif written != wanted:
        PAGE.write_text(wanted, encoding="utf-8")
    return 0


def take_over(folder: Path) -> None:
    """Copy a run's tables over those of the reference; tables that it lacks stay as they are."""
    REFERENCE.mkdir(exist_ok=True)
    run, reference = results.load_run(folder), results.load_run(REFERENCE)
    if not run["tables"]:
        raise SystemExit(f"{folder} holds no results: measure with make bench-full")
    for name in run["tables"]:
        shutil.copyfile(folder / f"{name}.csv", REFERENCE / f"{name}.csv")
    results.save_run(
        REFERENCE, {"machine": run["machine"], "tables": {**reference["tables"], **run["tables"]}}
    )


def fill(text: str, folder: Path) -> str:
    """The page's text with the figures of a folder. Raises `ValueError` for a block that nobody can write."""
    tables = results.load(folder)

    def write(match: re.Match[str]) -> str:
        begin, name, end = match.groups()
        if name not in VIEWS:
            raise ValueError(f"no figures are called {name}; there are {', '.join(VIEWS)}")
        try:
            lines = list(VIEWS[name](tables, folder))
        except KeyError:
            lines = ["Not measured."]
        return f"{begin}\n" + "\n".join(lines) + f"\n\n{end}"

    return BLOCK.sub(write, text)


Lines = Iterator[str]


def _machine(tables: Tables, folder: Path) -> Lines:
    run = results.load_run(folder)
    yield from table.markdown(
        [{"": name, "the machine": fact} for name, fact in run["machine"].items()]
        or [{"": "", "the machine": ""}]
    )
    yield ""
    measured = sorted({each["measured"] for each in run["tables"].values()})
    revisions = sorted({each["revision"] for each in run["tables"].values()})
    short = sorted(name for name, each in run["tables"].items() if each["scale"] != "full")
    yield f"Measured {' and '.join(measured)}, at commit {', '.join(revisions)}."
    if short:
        yield f"At the quick length, not the full one: {', '.join(short)}."


def _bars(tables: Tables, folder: Path) -> Lines:
    yield from table.markdown(bars.judge(tables))


def _whole(name: str, *columns: str) -> Callable[[Tables, Path], Lines]:
    """A table as it is, or some of its columns."""

    def view(tables: Tables, folder: Path) -> Lines:
        rows = tables[name]
        yield from table.markdown(
            [{column: row[column] for column in columns} for row in rows] if columns else rows
        )

    return view


def _rates(engine: str) -> Callable[[Tables, Path], Lines]:
    """The ratios of an engine, a column for each number of connections; and its rate and tail over 64."""

    def view(tables: Tables, folder: Path) -> Lines:
        rows = [row for row in tables["http-rates"] if row["engine"] == engine]
        connections = list(dict.fromkeys(row["connections"] for row in rows))
        if not rows:
            raise KeyError(engine)
        yield from table.markdown([_pivot(rows, operation, connections) for operation in _operations(rows)])

    return view


def _operations(rows: Rows) -> list[str]:
    return list(dict.fromkeys(row["operation"] for row in rows))


def _pivot(rows: Rows, operation: str, connections: Sequence[int]) -> Row:
    mine = {row["connections"]: row for row in rows if row["operation"] == operation}
    shown = mine.get(bars.CONNECTIONS) or next(iter(mine.values()))
    at = f"at {shown['connections']}"
    return {
        "operation": operation,
        **{f"{each} conn.": mine[each]["ratio"] for each in connections if each in mine},
        f"tasks/s {at}": shown["tasks/s"],
        f"p50 ms {at}": shown["p50 ms"],
        f"p99 ms {at}": shown["p99 ms"],
        f"p99.9 ms {at}": shown["p99.9 ms"],
    }


def _growth(tables: Tables, folder: Path) -> Lines:
    """A column for each size: the median of one operation after the other."""
    rows = tables["growth"]
    sizes = sorted({row["tasks"] for row in rows})
    pairs = list(dict.fromkeys((row["engine"], row["operation"]) for row in rows))
    found = {(row["engine"], row["operation"], row["tasks"]): row["alone p50 ms"] for row in rows}
    yield from table.markdown(
        [
            {
                "engine": engine,
                "operation": operation,
                **{f"{size:,}": found.get((engine, operation, size)) for size in sizes},
            }
            for engine, operation in pairs
        ]
    )


def _settings(tables: Tables, folder: Path) -> Lines:
    yield from table.markdown(
        [
            {
                "queue": queue.name,
                "kept by": queue.server,
                "set to": queue.settings,
                "as documented": f"[its documentation]({queue.documentation})",
            }
            for queue in QUEUES
            if not queue.is_ours
        ]
    )


VIEWS: dict[str, Callable[[Tables, Path], Lines]] = {
    "machine": _machine,
    "bars": _bars,
    "rates-memdb": _rates("memdb"),
    "rates-sqlite": _rates("sqlite"),
    "rates-mongodb": _rates("mongodb"),
    "latency": _whole("http-latency"),
    "million": _whole("http-million"),
    "million-rates": _whole("http-million-rates"),
    "million-pauses": _whole("http-million-pauses"),
    "metrics": _whole("http-metrics"),
    "waiting": _whole("waiting"),
    "waiting-idle": _whole("waiting-idle"),
    "engines": _whole("engines"),
    "growth": _growth,
    "lanes": _whole("lanes"),
    "snapshots": _whole("snapshots"),
    "batches": _whole("batches"),
    "sqlite-processes": _whole("sqlite-processes"),
    "mongodb-claims": _whole("mongodb-claims"),
    "end-to-end": _whole("end-to-end"),
    "end-to-end-settings": _settings,
    "http-libraries": _whole("http-libraries"),
}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
