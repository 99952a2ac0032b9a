"""Plots of what was measured, as SVG: the same rows make the same file.

python -m benchmarks.plots FOLDER
"""

from __future__ import annotations

import importlib
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks import results
from benchmarks.bars import BARS
from benchmarks.benchmark import Rows, Tables, Unavailable

# Distinguishable without colour vision too (Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
WIDTH = 9.0
PANEL = 3.2
"""Inches."""
SINGLES = ("insert", "claim", "commit")


def draw(folder: Path) -> list[Path]:
    """Draw whatever the tables of a folder allow; the files. Raises `Unavailable` without matplotlib."""
    try:
        matplotlib: Any = importlib.import_module("matplotlib")
    except ModuleNotFoundError as error:
        raise Unavailable("matplotlib is needed: pip install --group bench") from error
    matplotlib.use("svg")
    matplotlib.rcParams.update(
        {
            "svg.hashsalt": "ratus",
            "svg.fonttype": "none",
            "font.family": "sans-serif",
            "font.size": 9,
            "axes.grid": True,
            "grid.color": "#dddddd",
            "axes.axisbelow": True,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.prop_cycle": matplotlib.cycler(color=COLOURS),
            "legend.frameon": False,
            "figure.constrained_layout.use": True,
        }
    )
    tables = results.load(folder)
    drawn = []
    for name, plot in PLOTS.items():
        if not set(plot.tables) <= set(tables):
            continue
        figure = plot.draw(tables)
        path = folder / f"{name}.svg"
        figure.savefig(path, metadata={"Date": None, "Creator": None})
        _pyplot().close(figure)
        drawn.append(path)
    return drawn


class Plot:
    """A drawing of some tables."""

    def __init__(self, draw: Callable[[Tables], Any], *tables: str) -> None:
        self.draw = draw
        self.tables = tables


def _pyplot() -> Any:
    # Untyped on purpose: types are checked where matplotlib is not installed.
    return importlib.import_module("matplotlib.pyplot")


def _panels(rows: int, columns: int, **options: Any) -> tuple[Any, Any]:
    figure, axes = _pyplot().subplots(rows, columns, figsize=(WIDTH, PANEL * rows), squeeze=False, **options)
    return figure, axes


def _kinds(rows: Rows, column: str) -> list[Any]:
    """The values of a column, each once, in their order."""
    return list(dict.fromkeys(row[column] for row in rows))


def _lines(axis: Any, rows: Rows, by: str, x: str, y: str, names: Sequence[str]) -> None:
    """A line for each of the names; one that is not there takes its colour all the same."""
    for number, name in enumerate(names):
        points = [(row[x], row[y]) for row in rows if row[by] == name]
        if points:
            axis.plot(*zip(*points, strict=True), marker="o", markersize=4, label=name, color=COLOURS[number])


def _ticks(axis: Any, values: Sequence[int]) -> None:
    """Name the values themselves on a logarithmic axis."""
    axis.set_xscale("log")
    axis.set_xticks(values, [f"{value:,}" for value in values])
    axis.minorticks_off()


def _logarithmic(axis: Any) -> None:
    """Whole powers of ten from bottom to top, so that noise does not look like a trend."""
    axis.set_yscale("log")
    low, high = axis.dataLim.intervaly
    axis.set_ylim(10 ** math.floor(math.log10(low)), 10 ** math.ceil(math.log10(high * 1.01)))
    axis.yaxis.set_major_formatter(_plain)
    axis.yaxis.set_minor_formatter(lambda value, position: "")


def _plain(value: float, position: int) -> str:
    """A number as people write it, not as a power of ten."""
    return f"{value:,.10g}"


def _rates(tables: Tables) -> Any:
    rows = tables["http-rates"]
    engines = _kinds(rows, "engine")
    figure, axes = _panels(2, len(engines), sharey="row")
    for column, engine in enumerate(engines):
        mine = [row for row in rows if row["engine"] == engine]
        for axis, suffix, title in (
            (axes[0][column], "", "one task"),
            (axes[1][column], " batch", "batches"),
        ):
            names = [f"{name}{suffix}" for name in SINGLES]
            _lines(axis, mine, "operation", "connections", "ratio", names)
            _ticks(axis, _kinds(mine, "connections"))
            axis.set_title(f"{engine}, {title}")
            axis.set_xlabel("connections")
    axes[0][0].set_ylabel("requests per request of bare ASGI")
    axes[1][0].set_ylabel("tasks per request of bare ASGI")
    bars = {bar.name: bar.bar for bar in BARS if bar.table == "http-rates"}
    for number, name in enumerate(SINGLES):
        axes[0][0].axhline(bars[f"{name} one"], color=COLOURS[number], linestyle=":", linewidth=1)
    for axis in axes[:, 0]:
        axis.set_ylim(bottom=0)
        axis.legend()
    return figure


def _distribution(tables: Tables) -> Any:
    """Percentiles on an axis that stretches the tail: each step to the right is a tenth of the requests."""
    rows = tables["http-latency-distribution"]
    peer = [row for row in rows if row["engine"] == "bare ASGI"]
    engines = [engine for engine in _kinds(rows, "engine") if engine != "bare ASGI"]
    figure, axes = _panels(1, len(engines), sharey=True)
    marks = (50.0, 90.0, 99.0, 99.9, 99.99)
    for axis, engine in zip(axes[0], engines, strict=True):
        for name in SINGLES:
            _tail(axis, [row for row in rows if (row["engine"], row["operation"]) == (engine, name)], name)
        _tail(axis, peer, "bare ASGI", color="#777777", linestyle="--")
        axis.set_xscale("log")
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(_plain)
        axis.set_xticks([100 / (100 - mark) for mark in marks], [f"{mark:g}" for mark in marks])
        axis.minorticks_off()
        axis.set_title(f"{engine} at 70 % of its top rate")
        axis.set_xlabel("percentile")
    axes[0][0].set_ylabel("milliseconds")
    axes[0][0].legend()
    return figure


def _tail(axis: Any, rows: Rows, label: str, **style: Any) -> None:
    points = [(100 / (100 - row["percentile"]), row["ms"]) for row in rows if row["percentile"] < 100]
    if points:
        axis.plot(*zip(*points, strict=True), label=label, **style)


def _timeline(tables: Tables) -> Any:
    rows = tables["http-million-timeline"]
    states = _kinds(rows, "tasks")
    figure, axes = _panels(len(states), 1, sharex=True, sharey=True)
    for axis, state in zip(axes[:, 0], states, strict=True):
        points = [(row["second"], row["longest ms"]) for row in rows if row["tasks"] == state]
        axis.plot(*zip(*points, strict=True), linewidth=1)
        axis.axhline(50, color=COLOURS[1], linestyle=":", linewidth=1)
        axis.set_yscale("log")
        axis.yaxis.set_major_formatter(_plain)
        axis.set_title(state if state == "bare ASGI" else f"a million tasks, {state}")
        axis.set_ylabel("longest ms in 0.1 s")
    axes[-1][0].set_xlabel("seconds")
    figure.set_size_inches(WIDTH, 2.0 * len(states))
    return figure


def _growth(tables: Tables) -> Any:
    rows = tables["growth"]
    column = next(name for name in rows[0] if name.startswith("per s"))
    operations = ("insert", "claim", "commit", "insert by 1,000")
    figure, axes = _panels(2, 2, sharex=True)
    for axis, operation in zip(axes.flat, operations, strict=True):
        mine = [row for row in rows if row["operation"] == operation]
        _lines(axis, mine, "engine", "tasks", column, _kinds(rows, "engine"))
        _ticks(axis, sorted(_kinds(rows, "tasks")))
        _logarithmic(axis)
        axis.set_title(operation)
        axis.set_ylabel("tasks/s" if "by" in operation else "operations/s")
    for axis in axes[1]:
        axis.set_xlabel("tasks that are there")
    axes[0][0].legend()
    return figure


def _waiting(tables: Tables) -> Any:
    rows = tables["waiting"]
    engines = _kinds(rows, "engine")
    figure, axes = _panels(1, 3)
    for axis, column in zip(axes[0], ("p50 ms", "p99 ms", "hand-overs/s"), strict=True):
        _lines(axis, rows, "engine", "waiters", column, engines)
        _ticks(axis, _kinds(rows, "waiters"))
        _logarithmic(axis)
        axis.set_title(column)
        axis.set_xlabel("requests that wait")
    axes[0][0].legend()
    return figure


def _end_to_end(tables: Tables) -> Any:
    rows = sorted(tables["end-to-end"], key=lambda row: float(row["executed/s"]))
    figure, axes = _panels(1, 1)
    axis = axes[0][0]
    colours = [COLOURS[0] if str(row["queue"]).startswith("ratus") else "#999999" for row in rows]
    drawn = axis.barh([row["queue"] for row in rows], [row["executed/s"] for row in rows], color=colours)
    axis.bar_label(drawn, labels=[f"{row['executed/s']:,}" for row in rows], padding=3)
    axis.set_xlabel("tasks executed a second by one worker process")
    axis.margins(x=0.12)
    axis.grid(axis="y", visible=False)
    figure.set_size_inches(WIDTH, 0.3 * len(rows) + 1)
    return figure


PLOTS = {
    "http-rates": Plot(_rates, "http-rates"),
    "http-latency": Plot(_distribution, "http-latency-distribution"),
    "http-million": Plot(_timeline, "http-million-timeline"),
    "waiting": Plot(_waiting, "waiting"),
    "growth": Plot(_growth, "growth"),
    "end-to-end": Plot(_end_to_end, "end-to-end"),
}


if __name__ == "__main__":
    for written in draw(Path(sys.argv[1])):
        print(written)
