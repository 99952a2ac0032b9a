"""The engine to learn from passes the contract suite, as docs/engines/writing.md tells others to run it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "examples/engine"


def test_it_passes_the_contract_suite_as_an_engine_of_another_package(tmp_path: Path) -> None:
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("COV_", "PYTEST_"))},
        # Installed beside Ratus, in the words of the document.
        "PYTHONPATH": os.pathsep.join(map(str, (FOLDER, ROOT, ROOT / "engines"))),
        "HYPOTHESIS_STORAGE_DIRECTORY": str(tmp_path / "hypothesis"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 'suite'}"],
        cwd=FOLDER,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rootdir: " + str(FOLDER) in done.stdout, "it did not run with the settings of its own package"
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 500, "the suite did not run on it"
