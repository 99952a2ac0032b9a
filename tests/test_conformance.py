"""The recorded conversations with a real Ratus, replayed against this server."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent / "conformance"
CORPUS = FOLDER / "corpus.json"

# The server as it is started here, whatever is installed where.
COMMAND = f"{shlex.quote(sys.executable)} -m ratus"


@pytest.mark.parametrize("settings", [(), ("--env",)], ids=["flags", "environment"])
def test_every_recorded_step_agrees(settings: tuple[str, ...]) -> None:
    replayed = subprocess.run(
        [sys.executable, str(FOLDER / "replay.py"), "--spawn", COMMAND, *settings, str(CORPUS)],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=FOLDER.parent.parent,
    )

    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    steps = recorded_steps()
    assert replayed.stdout.endswith(f"\n{steps} of {steps} steps agree\n")


def recorded_steps() -> int:
    """Steps with an answer that is held against ours: those marked "skip" are where Ratus is wrong."""
    scenarios = json.loads(CORPUS.read_text(encoding="utf-8"))["scenarios"]
    return sum("answer" in step and not step.get("skip") for each in scenarios for step in each["steps"])
