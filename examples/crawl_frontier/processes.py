"""Child processes: started out of reach of the terminal's Ctrl-C, and ended in order."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import IO

# The folder from which `-m examples...` and `-m ratus` are found.
REPOSITORY = Path(__file__).resolve().parents[2]

# Seconds for a process to stop. It first finishes what it has begun, which takes a second or two.
_STOP_TIMEOUT = 15.0


def start(command: list[str], output: IO[bytes], *, errors: int | None = None) -> subprocess.Popen[bytes]:
    """Start a process in a group of its own: Ctrl-C is for its parent, which then ends it."""
    return subprocess.Popen(command, stdout=output, stderr=errors, cwd=REPOSITORY, process_group=0)


def end(*processes: subprocess.Popen[bytes]) -> None:
    """Send all of them SIGTERM, wait until they have ended, and kill those that take too long."""
    for process in processes:
        process.terminate()
    for process in processes:
        try:
            process.wait(_STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
