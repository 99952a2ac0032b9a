"""The guard: the workload still runs on the server as it is, and a loss is told from noise."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from benchmarks import processes
from benchmarks.guard import counting, workload
from benchmarks.guard.__main__ import main
from tests.benchmarks.needs import need

COUNTER = """
#include <stdio.h>
void begin(void) {}
void end(const char *name) { printf("%s\\n", name); fflush(stdout); }
"""
BASELINE = {"insert": 40.0, "claim": 50.0}


def test_the_workload_runs_on_the_real_server(tmp_path: Path) -> None:
    need("cc")
    source, library = tmp_path / "counter.c", tmp_path / "counter.so"
    source.write_text(COUNTER)
    processes.run(["cc", "-shared", "-fPIC", "-o", library, source])
    command = [sys.executable, "-m", "benchmarks.guard.workload", library]
    counted = processes.run(command, expected=workload.EXIT).split("\n")[:-1]
    singles = ["insert", "claim", "commit"]
    assert counted == [
        "calibration",
        *(f"engine {name}" for name in singles),
        *(f"server {name}" for name in singles),
        *(f"server {name} batch" for name in singles),
    ]
    baseline = counting.load()
    assert baseline is None or set(baseline) == set(counted[1:])


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [(40.0, ""), (45.9, ""), (46.1, "slower"), (52.0, "slower"), (34.1, ""), (33.0, "faster")],
)
def test_a_loss_is_told_from_noise(cost: float, verdict: str) -> None:
    rows = counting.compare({**BASELINE, "insert": cost}, BASELINE)
    assert [row["verdict"] for row in rows] == ["", verdict]


def test_what_is_counted_on_one_side_only_is_not_overlooked() -> None:
    rows = counting.compare({"insert": 40.0, "new": 1.0}, BASELINE)
    assert [(row["operation"], row["verdict"]) for row in rows] == [
        ("claim", "not counted any more"),
        ("insert", ""),
        ("new", "not in the baseline"),
    ]


@pytest.fixture
def baseline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a baseline for another version only."""
    path = tmp_path / "benchmarks" / "baseline.json"
    path.parent.mkdir()
    path.write_text('{"2.7": {"insert": 1.0}}')
    monkeypatch.setattr(counting, "BASELINE", path)
    return path


def found(monkeypatch: pytest.MonkeyPatch, insert: float) -> None:
    """Count this, without valgrind."""
    monkeypatch.setattr(counting, "count", lambda: {**BASELINE, "insert": insert})


def test_without_a_baseline_for_this_version_it_says_what_to_do(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, 40.0)
    assert main([]) == 1
    assert f"nothing for Python {counting.VERSION}: run it with --refresh" in capsys.readouterr().err


def test_a_refresh_is_the_baseline_from_then_on(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found(monkeypatch, 40.0)
    assert main(["--refresh"]) == 0
    assert '"2.7"' in baseline.read_text()
    assert main([]) == 0
    found(monkeypatch, 40.0 * 1.3)
    assert main([]) == 1
    assert "guard: insert: compare with the baseline's commit" in capsys.readouterr().err
    found(monkeypatch, 40.0 * 0.7)
    assert main([]) == 0
    assert "faster than the baseline" in capsys.readouterr().out
