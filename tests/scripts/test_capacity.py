"""The measurement of what tasks cost runs, and gives the table of docs/capacity.md."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_measures_every_engine_in_every_state() -> None:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    command = [sys.executable, str(ROOT / "scripts/measure_capacity.py"), "2000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=True)
    rows = re.findall(r"^\| (`\w+` \| \w+) \|", done.stdout, re.MULTILINE)
    page = (ROOT / "docs/capacity.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (`\w+` \| \w+) \|", page, re.MULTILINE) == rows
    assert len(rows) == 6
