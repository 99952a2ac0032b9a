"""Connections to the database file: settings, and one writer at a time.

SQLite lets one connection write at a time. Before it asks SQLite, a writer locks a file of Ratus's own beside
the database (``PATH-lock``), and it holds that lock while it writes or copies the write-ahead log back into
the database (a checkpoint). SQLite before 3.51.3 can damage a file when one process commits while two others
make a checkpoint; behind this lock no two Ratus processes ever do these at once.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ratus.core.errors import ServiceUnavailable, StartupError
from ratus_engines import private_files
from ratus_engines.sqlite import schema
from ratus_engines.sqlite.errors import is_busy
from ratus_engines.sqlite.files import Identity, identity

# 3.35 (March 2021) is the first that can drop a column, which a migration may need.
OLDEST_SQLITE = (3, 35, 0)

# Kibibytes of pages that a connection keeps in memory. Claims and commits touch the ends of a few indexes,
# reads may touch any page.
WRITER_CACHE = 64 * 1024
READER_CACHE = 16 * 1024

# After a spike (a backup that kept the log from being reused, say) the log is cut back to this many bytes.
LOG_KEPT = 64 * 1024 * 1024

# When the log has so many pages (16 MiB) the next commit copies them back into the database. That takes about
# 15 ms; at SQLite's usual 1,000 pages it takes 6 ms, but so often that a tenth of all work is lost.
LOG_PAGES = 4_000

# Seconds between two tries to get a lock: a group of writes takes about a millisecond.
_SHORTEST_NAP, _LONGEST_NAP = 0.000_3, 0.002


def check_library(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Check Python's SQLite library. Raises `StartupError` when it is too old."""
    if version < OLDEST_SQLITE:
        raise StartupError(
            f"the SQLite library of this Python is {'.'.join(map(str, version))}, engine sqlite needs "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer; use a newer Python or system"
        )


def check_place(path: Path) -> None:
    """Check the path of a database. Raises `StartupError` where no file can be."""
    if not path.parent.is_dir():
        raise StartupError(f"cannot keep tasks in {path}: there is no folder {path.parent}; create it")
    if path.exists() and not path.is_file():
        raise StartupError(f"cannot keep tasks in {path}: it is not a regular file")


def connect_writer(path: Path, synchronous: str, lock: WriteLock) -> sqlite3.Connection:
    """A connection for writing to the file, which is created if it is not there, with the newest schema.

    The caller holds ``lock``. Raises `StartupError` where that can never succeed, and `sqlite3.Error`.
    """
    with contextlib.suppress(OSError):  # below, SQLite says better what is wrong with the path
        # The log and the index beside the file get its permissions.
        private_files.make(path)
    connection = _connect(path, WRITER_CACHE)
    try:
        if not schema.check(connection):
            # SQLite accepts this only before the first table is there.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StartupError(
                f"cannot keep tasks in {path}: its file system cannot hold a write-ahead log; "
                "choose a path on a disk of this machine"
            )
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}")
        if sys.platform == "darwin":
            # On macOS, fsync leaves data in the disk's own cache.
            connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
        schema.migrate(connection)
        # A file that is read-only for this user can be opened, and a transaction begun; only a write fails.
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("UPDATE counters SET last = last")
        connection.execute("ROLLBACK")
    except schema.Foreign as foreign:
        connection.close()
        raise StartupError(f"{path} {foreign}") from None
    except BaseException:
        connection.close()
        raise
    return connection


def connect_reader(path: Path, busy_timeout: int) -> sqlite3.Connection:
    """A connection that cannot write, to a file that a writer has opened before."""
    connection = _connect(path, READER_CACHE, busy_timeout)
    try:
        connection.execute("PRAGMA query_only = ON")
        # A reader that copied the log back would do a writer's work without its lock.
        connection.execute("PRAGMA wal_autocheckpoint = 0")
    except BaseException:
        connection.close()
        raise
    return connection


def _connect(path: Path, cache: int, busy_timeout: int = 0) -> sqlite3.Connection:
    # An absolute path, so that a file called ":memory:" or "file:x" is just that.
    connection = sqlite3.connect(
        path.absolute(), timeout=busy_timeout / 1_000_000, isolation_level=None, cached_statements=256
    )
    connection.execute(f"PRAGMA cache_size = -{cache}")
    # Some systems turn on overwriting what is deleted, which doubles the writing.
    connection.execute("PRAGMA secure_delete = OFF")
    return connection


class WriteLock:
    """The lock that a writer holds. Released by the system when the process ends, however it ends.

    Its file stands beside the database itself, also where ``path`` is a link. ``timeout`` is in microseconds.
    """

    def __init__(self, path: Path, timeout: int) -> None:
        self._path = Path(f"{os.path.realpath(path)}-lock")
        self._timeout = timeout / 1_000_000
        self._file: int | None = None
        self._identity: Identity | None = None

    def open(self) -> None:
        """Open the lock file, or make it. Raises `OSError` when that fails."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, private_files.MODE)
        status = os.fstat(self._file)
        self._identity = status.st_dev, status.st_ino

    def close(self) -> None:
        """Close the lock file. It is not deleted: another process may be about to lock it."""
        if self._file is not None:
            os.close(self._file)
            self._file = self._identity = None

    def acquire(self) -> None:
        """Wait for the lock.

        Raises `ServiceUnavailable` when it takes longer than the timeout, `OSError` where the system fails.
        """
        if self._file is None:
            self.open()
        assert self._file is not None, "the lock's file is open"
        file = self._file

        def lock() -> bool:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
            return True

        self._insist(lock)

    def release(self) -> None:
        """Release the lock."""
        if self._file is None:
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_UN)
        except OSError:
            # Closing the file releases the lock as well. `acquire` opens it again.
            self.close()

    def changed(self) -> str:
        """The lock file, in words, if it was moved, replaced or deleted; else an empty text.

        Another process would then lock another file.
        """
        held = self._identity
        return f"the lock file {self._path}" if held is not None and identity(self._path) != held else ""

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes, and wait while a program other than Ratus holds SQLite's lock.

        Raises `ServiceUnavailable` when that takes longer than the timeout, and `sqlite3.OperationalError`.
        """

        def begin() -> bool:
            try:
                connection.execute("BEGIN IMMEDIATE")
            except sqlite3.OperationalError as error:
                if not is_busy(error):
                    raise
                return False
            return True

        self._insist(begin)

    def _insist(self, attempt: Callable[[], bool]) -> None:
        until = 0.0
        while not attempt():
            now = time.monotonic()
            until = until or now + self._timeout
            if now >= until:
                raise ServiceUnavailable("the database is locked by another process; try again")
            # Two processes that wait the same time would try at the same moments again and again.
            time.sleep(random.uniform(_SHORTEST_NAP, _LONGEST_NAP))
