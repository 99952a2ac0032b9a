"""The bars that Ratus has to clear, and whether it does.

Rates are ratios to bare ASGI on the same uvicorn, in the same run. Where a machine itself makes requests
wait, the same is measured of bare ASGI: a bar that even the peer does not clear says more of the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from benchmarks.benchmark import Rows, Tables

CONNECTIONS = 64


@dataclass(frozen=True)
class Bar:
    """One figure, and what it has to be."""

    name: str
    unit: str
    table: str
    value: Callable[[Rows], float]
    """The figure, from the table's rows. Raises `ValueError` when they lack it."""
    bar: float
    aim: float | None = None
    at_least: bool = True
    peer: Callable[[Rows], float] | None = None
    """The same figure of bare ASGI, or of this server while nothing happens."""


def judge(tables: Tables) -> Rows:
    """A row for each bar whose table is there."""
    rows: Rows = []
    for bar in BARS:
        try:
            value = bar.value(tables[bar.table])
        except (KeyError, ValueError):
            continue
        rows.append(
            {
                "figure": bar.name,
                "unit": bar.unit,
                "value": value,
                "bar": f"{'at least' if bar.at_least else 'at most'} {bar.bar:,g}",
                "aim": bar.aim,
                "met": _met(bar, value),
                "the peer's": bar.peer(tables[bar.table]) if bar.peer else None,
            }
        )
    return rows


def _met(bar: Bar, value: float) -> str:
    if value < bar.bar if bar.at_least else value > bar.bar:
        return "no"
    return "aim" if bar.aim is not None and value >= bar.aim else "yes"


def _ratio(operation: str) -> Callable[[Rows], float]:
    def read(rows: Rows) -> float:
        return _one(
            row["ratio"]
            for row in rows
            if (row["engine"], row["operation"], row["connections"]) == ("memdb", operation, CONNECTIONS)
        )

    return read


def _cost(what: str) -> Callable[[Rows], float]:
    return lambda rows: _one(row["value"] for row in rows if row["what"] == what)


def _longest(*states: str) -> Callable[[Rows], float]:
    return lambda rows: max(row["longest ms"] for row in rows if row["tasks"] in states)


def _spread(engine: str) -> Callable[[Rows], float]:
    return lambda rows: max(row["p99 / p50"] for row in rows if row["engine"] == engine)


def _stall(scraping: bool) -> Callable[[Rows], float]:
    return lambda rows: _one(row["longest stall ms"] for row in rows if (row["scrapes"] > 0) == scraping)


def _one(values: Iterable[float]) -> float:
    for value in values:
        return float(value)
    raise ValueError("not measured")


BARS = (
    Bar("insert one", "ratio", "http-rates", _ratio("insert"), 0.60, 1.0),
    Bar("claim one", "ratio", "http-rates", _ratio("claim"), 0.45, 0.8),
    Bar("commit one", "ratio", "http-rates", _ratio("commit"), 0.50, 0.9),
    # 100,000 and 60,000 tasks a second where bare ASGI answers 30,000 requests.
    Bar("insert 1,000", "tasks per bare request", "http-rates", _ratio("insert batch"), 3.33),
    Bar("claim 100", "tasks per bare request", "http-rates", _ratio("claim batch"), 2.0),
    Bar("commit 100", "tasks per bare request", "http-rates", _ratio("commit batch"), 2.0),
    Bar(
        "p99 / p50 at 70 % of the top rate, the worst of insert, claim, commit",
        "times",
        "http-latency",
        _spread("memdb"),
        10,
        at_least=False,
        peer=_spread("bare ASGI"),
    ),
    Bar(
        "longest wait with a million tasks",
        "ms",
        "http-million-pauses",
        _longest("pending", "active"),
        50,
        at_least=False,
        peer=_longest("bare ASGI"),
    ),
    Bar("memory of a million pending", "MB", "http-million", _cost("memory, pending"), 700, at_least=False),
    Bar("memory of a million active", "MB", "http-million", _cost("memory, active"), 950, at_least=False),
    Bar("start with a million", "s", "http-million", _cost("start to ready"), 10, at_least=False),
    Bar(
        "rate with a million to that with 10,000, the worst",
        "ratio",
        "http-million-rates",
        lambda rows: min(row["ratio"] for row in rows),
        0.7,
    ),
    Bar(
        "longest stall by a scrape of 1,000 topics",
        "ms",
        "http-metrics",
        _stall(True),
        10,
        at_least=False,
        peer=_stall(False),
    ),
)
