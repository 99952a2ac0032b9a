"""The recorded conversations with a real Ratus, replayed against a server on this engine."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from tests.test_conformance import CORPUS, FOLDER, recorded_steps


def test_every_recorded_step_agrees(tmp_path: Path) -> None:
    # A server is started for each set of settings; each replayed scenario begins by deleting everything.
    path = shlex.quote(str(tmp_path / "ratus.db"))
    command = f"{shlex.quote(sys.executable)} -m ratus --engine sqlite --sqlite-path {path}"
    replayed = subprocess.run(
        [sys.executable, str(FOLDER / "replay.py"), "--spawn", command, str(CORPUS)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=FOLDER.parent.parent,
    )

    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    steps = recorded_steps()
    assert replayed.stdout.endswith(f"\n{steps} of {steps} steps agree\n")
