"""Figures: percentiles, tables, files and bars."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import bars, plots, results
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.http_metrics import _longest
from benchmarks.statistic import middle_round, percentile
from benchmarks.table import markdown, text
from tests.benchmarks.needs import need


def test_percentiles_are_values_that_occurred() -> None:
    values = list(range(1, 1001))
    assert [percentile(values, share) for share in (0, 50, 99, 99.9, 100)] == [1, 500, 990, 999, 1000]
    assert percentile([7], 99.9) == 7


def test_the_middle_round_is_that_of_the_median() -> None:
    assert middle_round([5.0, 1.0, 3.0]) == 2
    assert middle_round([4.0, 1.0, 2.0, 3.0]) == 2


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1234.5, "1,234"),
        (12.34, "12.3"),
        (1.234, "1.23"),
        (0.01234, "0.012"),
        (7, "7"),
        (None, ""),
        (True, "yes"),
    ],
)
def test_values_are_shown_with_the_digits_that_mean_something(value: object, shown: str) -> None:
    assert text(value) == shown


def test_figures_are_aligned_to_the_right() -> None:
    rows: Rows = [{"name": "a", "rate": 1000.0, "note": None}, {"name": "bcd", "rate": 2.5, "note": 1}]
    assert list(markdown(rows)) == [
        "| name |  rate | note |",
        "| ---- | ----: | ---: |",
        "| a    | 1,000 |      |",
        "| bcd  |  2.50 |    1 |",
    ]


def test_tables_come_back_from_files_as_they_were(tmp_path: Path) -> None:
    tables: Tables = {"a": [{"name": "x", "rate": 1.25, "count": 3, "none": None}], "b": [{"n": 1}]}
    results.save(tmp_path, tables, Scale.QUICK, {"memory": "25 GB"})
    assert results.load(tmp_path) == tables
    run = results.load_run(tmp_path)
    assert run["machine"] == {"memory": "25 GB"}
    assert run["tables"]["a"]["scale"] == "quick"


def test_a_run_in_parts_keeps_the_other_parts(tmp_path: Path) -> None:
    results.save(tmp_path, {"a": [{"n": 1}]}, Scale.FULL, {})
    results.save(tmp_path, {"b": [{"n": 2}]}, Scale.QUICK, {})
    assert list(results.load(tmp_path)) == ["a", "b"]
    assert results.load_run(tmp_path)["tables"]["a"]["scale"] == "full"


def rates(insert: float) -> Tables:
    """The rate of inserts over 64 connections, as `http-rates` has it."""
    return {
        "http-rates": [
            {"engine": engine, "operation": "insert", "connections": connections, "ratio": ratio}
            for engine, connections, ratio in (("memdb", 1, 9.0), ("memdb", 64, insert), ("sqlite", 64, 9.0))
        ]
    }


@pytest.mark.parametrize(("ratio", "met"), [(0.59, "no"), (0.6, "yes"), (0.99, "yes"), (1.0, "aim")])
def test_a_bar_of_a_rate_is_judged_over_64_connections_of_memdb(ratio: float, met: str) -> None:
    (row,) = bars.judge(rates(ratio))
    assert (row["figure"], row["value"], row["met"]) == ("insert one", ratio, met)


@pytest.mark.parametrize(("longest", "met"), [(49.0, "yes"), (51.0, "no")])
def test_a_bar_of_a_pause_is_judged_by_the_worst_state(longest: float, met: str) -> None:
    rows: Rows = [
        {"tasks": state, "longest ms": value}
        for state, value in (("pending", 1.0), ("active", longest), ("bare ASGI", 60.0))
    ]
    (row,) = bars.judge({"http-million-pauses": rows})
    assert (row["value"], row["met"], row["the peer's"]) == (longest, met, 60.0)


def test_every_bar_has_a_benchmark_of_the_quick_set() -> None:
    from benchmarks.suite import BENCHMARKS

    quick = [benchmark.name for benchmark in BENCHMARKS if Scale.QUICK in benchmark.seconds]
    assert all(any(bar.table.startswith(name) for name in quick) for bar in bars.BARS)


def test_a_stall_is_that_of_the_requests_under_way_meanwhile() -> None:
    class Some:
        clock = 1_000_000
        due = (0, 1_000, 2_000, 3_000)
        done = (100, 9_000, 2_100, 3_100)

    # In microseconds of the run: from 5,000 to 6,000 only the second request was under way.
    assert _longest(Some(), 1_000_000 + 5_000_000, 1_000_000 + 6_000_000) == 8.0  # type: ignore[arg-type]  # enough of it
    assert _longest(Some(), 1_000_000, 1_000_000 + 50_000) == 0.1  # type: ignore[arg-type]  # as above


def test_plots_are_drawn_from_the_files_and_the_same_each_time(tmp_path: Path) -> None:
    need("matplotlib")
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        results.save(folder, EXAMPLES, Scale.SMOKE, {})
        assert {path.stem for path in plots.draw(folder)} == set(plots.PLOTS)
    for path in first.glob("*.svg"):
        assert path.read_bytes() == (second / path.name).read_bytes()
        assert "<svg" in path.read_text()


def test_a_plot_whose_table_is_missing_is_left_out(tmp_path: Path) -> None:
    need("matplotlib")
    results.save(tmp_path, {"end-to-end": EXAMPLES["end-to-end"]}, Scale.SMOKE, {})
    assert [path.name for path in plots.draw(tmp_path)] == ["end-to-end.svg"]


OPERATIONS = ("insert", "claim", "commit")
EXAMPLES: Tables = {
    "http-rates": [
        {"engine": engine, "operation": operation + suffix, "connections": connections, "ratio": 0.5}
        for engine in ("memdb", "sqlite")
        for connections in (1, 64)
        for operation in OPERATIONS
        for suffix in ("", " batch")
    ],
    "http-latency-distribution": [
        {"engine": engine, "operation": operation, "percentile": percent, "ms": 1 + percent}
        for engine in ("bare ASGI", "memdb")
        for operation in (("any",) if engine == "bare ASGI" else OPERATIONS)
        for percent in (0, 50, 99, 100)
    ],
    "http-million-timeline": [
        {"tasks": state, "second": second, "longest ms": 1.0 + second}
        for state in ("pending", "active", "bare ASGI")
        for second in (0.0, 0.1)
    ],
    "growth": [
        {
            "engine": "memdb",
            "tasks": tasks,
            "operation": operation,
            "alone p50 ms": 0.1,
            "per s, 64 at once": 9.0,
        }
        for tasks in (10, 1000)
        for operation in (*OPERATIONS, "insert by 1,000")
    ],
    "waiting": [
        {"engine": "memdb", "waiters": waiters, "p50 ms": 0.1, "p99 ms": 0.2, "hand-overs/s": 1000.0}
        for waiters in (1, 64)
    ],
    "end-to-end": [{"queue": queue, "executed/s": rate} for queue, rate in (("ratus memdb", 10), ("rq", 1))],
}
