"""What a user writes keeps its types for pyright, too; mypy checks it with the rest (`typed_usage`)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.support import PATIENCE

ROOT = Path(__file__).parents[2]
USAGE = Path(__file__).parent / "typed_usage.py"


def test_pyright_finds_the_slips_that_are_there_and_no_other() -> None:
    pytest.importorskip("basedpyright", reason="basedpyright is not installed")
    done = subprocess.run(
        [sys.executable, "-m", "basedpyright", "--outputjson", "--level", "error", str(USAGE)],
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,
        check=False,
        cwd=ROOT,
    )
    problems = json.loads(done.stdout)["generalDiagnostics"]
    found = {each["range"]["start"]["line"] + 1 for each in problems if each["severity"] == "error"}
    lines = USAGE.read_text(encoding="utf-8").splitlines()
    assert found == {number for number, line in enumerate(lines, 1) if "# type: ignore[" in line}, problems
