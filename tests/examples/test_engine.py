"""The engine to learn from passes the contract suite, as docs/engines/writing.md tells others to run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_passes_the_contract_suite_as_an_engine_of_another_package(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))},
        "PYTHONPATH": str(ROOT / "examples/engine"),
        "RATUS_CONTRACT_ENGINES": "journal=ratus_engine_journal.contract:journal",
    }
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, f"--basetemp={tmp_path / 'suite'}", "tests/engines/contract", "-k", "journal"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 400, "the suite did not run on it"
