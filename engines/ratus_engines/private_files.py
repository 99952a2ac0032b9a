"""Creates files with mode 0600, whatever the umask: they hold tasks, and payloads may be confidential.

A file that already exists keeps its permissions: an operator may have chosen them.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO, Final

MODE: Final = 0o600


def open_new(path: Path) -> BinaryIO:
    """Open a file for writing: a new one, or the existing one, emptied. Raises `OSError`."""
    return open(path, "wb", opener=lambda name, flags: os.open(name, flags | os.O_CLOEXEC, MODE))


def make(path: Path) -> None:
    """Create an empty file unless it exists, for a library that would create it with other permissions.

    Raises `OSError`.
    """
    os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, MODE))
