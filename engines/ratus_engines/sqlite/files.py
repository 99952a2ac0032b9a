"""The files of a database, and whether they still have their names and what was written to them.

What is written to a file that was moved, replaced or deleted cannot be found after a crash; and another
process that opens the name gets another file, another log or another lock. So before each write the writer
checks the names, and whether the database was emptied or its log cut.
"""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

Identity = tuple[int, int]


def identity(path: str | Path) -> Identity | None:
    """The device and inode of the file with this name, or ``None`` if there is none. Raises `OSError`."""
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return status.st_dev, status.st_ino


class OpenFiles:
    """The database at ``path``, its log and the index of its log, as an open connection has them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = ""
        self._known: dict[str, tuple[str, Identity | None]] = {}
        self._log_size = 0

    def remember(self, connection: sqlite3.Connection) -> None:
        """Remember which files a connection has that was just opened."""
        # SQLite follows links, and its other files stand beside the real one.
        ((_, _, real),) = connection.execute("PRAGMA database_list").fetchall()
        self._log = f"{real}-wal"
        names = {
            str(self._path): "the database file",
            self._log: f"the log of the database ({self._log})",
            f"{real}-shm": f"the index of its log ({real}-shm)",
        }
        self._known = {name: (words, identity(name)) for name, words in names.items()}
        self.measure()

    def changed(self) -> str:
        """Which file was moved, replaced or deleted since `remember`, in words; empty when none was."""
        for name, (words, known) in self._known.items():
            if known is not None and identity(name) != known:
                return words
        return ""

    def lost_only_log(self) -> bool:
        """Whether only the log is gone from its place, perhaps with its index, and no new file is there.

        Then no other process has opened the database since.
        """
        if identity(self._log) is not None:
            return False
        index = self._log.removesuffix("-wal") + "-shm"
        return all(
            name == self._log
            or known is None
            or (found := identity(name)) == known
            or (found is None and name == index)
            for name, (_, known) in self._known.items()
        )

    def measure(self) -> None:
        """Remember the length of the log, which is right: it was just written or checked."""
        self._log_size = _size(self._log)

    def is_emptied(self) -> bool:
        """Whether the database file is empty, although it was opened: SQLite never empties it."""
        return bool(self._log) and _size(self._path) == 0

    def is_log_cut(self) -> bool:
        """Whether the log is shorter than when it was measured last."""
        return _size(self._log) < self._log_size

    def log_holds(self, pages: int, page_size: int) -> bool:
        """Whether the log is long enough for so many pages: each has a header, and the log has one."""
        return _size(self._log) >= 32 + pages * (24 + page_size)


def _size(path: str | Path) -> int:
    try:
        return os.stat(path).st_size
    except (FileNotFoundError, NotADirectoryError):
        return 0
