"""Files that hold tasks are made for their owner alone, whatever the umask: payloads may be confidential.

A file that is there already keeps its permissions; they may be meant.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

MODE: Final = 0o600


def open_new(path: Path) -> BinaryIO:
    """Open an empty file for writing, whether or not there is one. Raises `OSError`."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, MODE))


def make(path: Path) -> None:
    """Make an empty file, unless there is one, for a library that would make it with other permissions.

    Raises `OSError`.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
