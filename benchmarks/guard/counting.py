"""Counts instructions with valgrind's callgrind, and compares them with a baseline.

An operation costs so many instructions; expressed in rounds of a calibration loop that is counted in the same
process, the figure hardly depends on processor and build, and not at all on what else a machine does. It does
depend on the interpreter's version, so the baseline has a set of figures for each.
"""

from __future__ import annotations

import json
import os
import re
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import processes
from benchmarks.benchmark import Row, Rows, Unavailable
from benchmarks.guard import workload

BASELINE = Path(__file__).parent.parent / "baseline.json"
SOURCE = Path(__file__).with_name("counter.c")
MARGIN = 0.15
"""What a build, a library's release or the length of a name may change; a real loss is more."""
VERSION = sysconfig.get_python_version()
UNIT = workload.CALIBRATION
TASKS = {True: workload.BATCH * workload.BATCHES, False: workload.COUNTED}
"""Tasks in what is counted: of batches, and of single ones."""


def count() -> dict[str, float]:
    """The cost of each operation for one task, in rounds of the calibration loop. Raises `Unavailable`."""
    valgrind = processes.program("valgrind", "valgrind")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        library = folder / "counter.so"
        compiler = processes.program("cc", "gcc libc6-dev")
        try:
            processes.run([compiler, "-O2", "-shared", "-fPIC", "-o", library, SOURCE])
        except RuntimeError as error:
            raise Unavailable(f"valgrind's headers are needed: apt-get install valgrind\n{error}") from error
        command = [
            *(valgrind, "--tool=callgrind", "--instr-atstart=no", f"--callgrind-out-file={folder / 'out'}"),
            *(sys.executable, "-m", "benchmarks.guard.workload", library),
        ]
        environment = processes.environment() | {"PYTHONHASHSEED": "0", "LC_ALL": "C.UTF-8"}
        # The workload ends its server by a second signal, which is its way of saying that all is done.
        processes.run(command, env=environment, expected=workload.EXIT)
        counted = dict(_read(path) for path in folder.glob("out.*"))
    unit = counted.pop("calibration") / UNIT
    return {
        name: instructions / TASKS[name.endswith("batch")] / unit for name, instructions in counted.items()
    }


def _read(path: Path) -> tuple[str, int]:
    """The name and the instructions of one dump."""
    text = path.read_text(errors="replace")
    name = re.search(r"^desc: Trigger: Client Request: (.*)$", text, re.MULTILINE)
    total = re.search(r"^(?:totals|summary): (\d+)", text, re.MULTILINE)
    if name is None or total is None:
        raise RuntimeError(f"callgrind wrote what cannot be read: {text[:300]}")
    return name[1], int(total[1])


def compare(found: dict[str, float], baseline: dict[str, float]) -> Rows:
    """A row for each operation; `verdict` is empty where all is well."""
    return [
        _row(name, found.get(name), baseline.get(name)) for name in sorted(found.keys() | baseline.keys())
    ]


def _row(name: str, cost: float | None, before: float | None) -> Row:
    if cost is None or before is None:
        change, verdict = None, "not in the baseline" if before is None else "not counted any more"
    else:
        change = 100 * (cost / before - 1)
        verdict = "slower" if change > 100 * MARGIN else "faster" if change < -100 * MARGIN else ""
    return {"operation": name, "baseline": before, "now": cost, "change %": change, "verdict": verdict}


def load() -> dict[str, float] | None:
    """The baseline of this version of Python, if there is one."""
    return _all().get(VERSION)


def save(found: dict[str, float]) -> None:
    """Make this the baseline of this version of Python; those of others stay."""
    rounded = {name: round(cost, 2) for name, cost in sorted(found.items())}
    text = json.dumps(_all() | {VERSION: rounded}, indent=2, sort_keys=True)
    # Renamed when it is whole.
    part = BASELINE.with_suffix(".part")
    part.write_text(text + "\n", encoding="utf-8")
    os.replace(part, BASELINE)


def _all() -> dict[str, Any]:
    if not BASELINE.exists():
        return {}
    found: dict[str, Any] = json.loads(BASELINE.read_text(encoding="utf-8"))
    return found
