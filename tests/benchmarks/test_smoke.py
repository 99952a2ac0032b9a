"""Every benchmark runs, at sizes whose figures mean nothing, and leaves no process behind."""

from __future__ import annotations

import subprocess

import pytest

from benchmarks import processes
from benchmarks.benchmark import Benchmark, Scale
from benchmarks.suite import BENCHMARKS
from benchmarks.table import markdown
from tests.benchmarks.needs import need

NEEDS = {"gcc": "cc", "redis-server": "", "postgresql": "", "mongod": ""}
"""At this scale only the memory engine is measured over HTTP, and no other queue."""
EXTRA = {"mongodb-claims": ("mongod",)}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda benchmark: benchmark.name)
def test_a_benchmark_runs(benchmark: Benchmark, monkeypatch: pytest.MonkeyPatch) -> None:
    need(*filter(None, (NEEDS.get(name, name) for name in benchmark.needs)), *EXTRA.get(benchmark.name, ()))
    started: list[subprocess.Popen[bytes]] = []
    start = processes.start

    def remember(*arguments: object, **options: object) -> subprocess.Popen[bytes]:
        process: subprocess.Popen[bytes] = start(*arguments, **options)  # type: ignore[arg-type]  # passed on
        started.append(process)
        return process

    monkeypatch.setattr(processes, "start", remember)
    tables = benchmark.measure(Scale.SMOKE)
    assert set(tables) >= benchmark.unprinted
    for name, rows in tables.items():
        assert rows, name
        assert all(list(row) == list(rows[0]) for row in rows), f"{name}: rows have different columns"
        assert not any(row.get("refused") for row in rows), f"{name}: requests were refused"
        assert len(list(markdown(rows))) == 2 + len(rows)
    assert all(process.poll() is not None for process in started)


def test_names_are_unique_and_tables_too() -> None:
    names = [benchmark.name for benchmark in BENCHMARKS]
    assert len(set(names)) == len(names)
    for benchmark in BENCHMARKS:
        assert benchmark.question.endswith("?")
        assert Scale.FULL in benchmark.seconds


def test_the_sets_keep_to_their_time() -> None:
    quick = sum(benchmark.seconds.get(Scale.QUICK, 0) for benchmark in BENCHMARKS)
    full = sum(benchmark.seconds[Scale.FULL] for benchmark in BENCHMARKS)
    assert quick < 5 * 60
    assert full < 45 * 60
