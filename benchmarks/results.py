"""Figures as files: a CSV for each table, and ``run.json``, which says where and when they were measured."""

from __future__ import annotations

import csv
import datetime
import json
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Scale, Tables
from benchmarks.processes import ROOT

RUN = "run.json"
DIGITS = 6
"""Significant digits that are kept: more than any measurement is worth, few enough to be read."""


def save(folder: Path, tables: Tables, scale: Scale, machine: dict[str, str]) -> None:
    """Write tables beside those that are there from other runs."""
    folder.mkdir(parents=True, exist_ok=True)
    run = load_run(folder)
    run["machine"] = machine
    for name, rows in tables.items():
        if not rows:
            continue
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
            writer.writeheader()
            writer.writerows({column: _write(value) for column, value in row.items()} for row in rows)
        today = datetime.datetime.now(datetime.UTC).date().isoformat()
        run["tables"][name] = {"measured": today, "scale": scale.value, "revision": _revision()}
    save_run(folder, run)


def load(folder: Path) -> Tables:
    """All tables of a folder, with numbers as numbers."""
    tables: Tables = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(newline="", encoding="utf-8") as file:
            tables[path.stem] = [
                {column: _read(value) for column, value in row.items()} for row in csv.DictReader(file)
            ]
    return tables


def load_run(folder: Path) -> dict[str, Any]:
    """What `save` has noted of the runs."""
    path = folder / RUN
    if not path.exists():
        return {"machine": {}, "tables": {}}
    run: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return run


def save_run(folder: Path, run: dict[str, Any]) -> None:
    """Write what `load_run` reads."""
    (folder / RUN).write_text(json.dumps(run, indent=2) + "\n", encoding="utf-8")


def _write(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.{DIGITS}g}" if isinstance(value, float) else value


def _read(text: str) -> Any:
    if not text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text


def _revision() -> str:
    """The commit that was measured; with a plus where files have been changed since."""
    git = ["git", "-C", str(ROOT)]
    try:
        done = subprocess.run(
            [*git, "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
