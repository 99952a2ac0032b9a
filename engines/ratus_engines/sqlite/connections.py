"""Connections to the database file: settings, what errors mean, and one writer at a time.

SQLite lets one connection write at a time. Before it asks SQLite, a writer takes a lock of ours on a file
beside the database (``PATH-lock``), and it holds it while it writes or copies the write-ahead log back into
the database (a checkpoint). SQLite before 3.51.3 can damage a file when one process commits while two others
make a checkpoint; behind this lock no two Ratus processes ever do these at once.
"""

from __future__ import annotations

import fcntl
import os
import random
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path

from ratus.errors import PayloadTooLarge, ServiceUnavailable, StartupError
from ratus_engines.sqlite import schema

# 3.35 (March 2021) is the first that can drop a column, which a migration may need.
OLDEST_SQLITE = (3, 35, 0)

# Kibibytes of pages that a connection keeps in memory. Claims and commits touch the ends of a few indexes,
# reads wander.
WRITER_CACHE = 64 * 1024
READER_CACHE = 16 * 1024

# After a spike (a backup that kept the log from being reused, say) the log is cut back to this many bytes.
LOG_KEPT = 64 * 1024 * 1024

# When the log has so many pages (16 MiB) the next commit copies them back into the database. That takes about
# 15 ms; at SQLite's usual 1,000 pages it takes 6 ms, but so often that a tenth of all work is lost.
LOG_PAGES = 4_000

# Between two tries to get a lock: a group of writes takes about a millisecond.
_SHORTEST_NAP, _LONGEST_NAP = 0.000_3, 0.002

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def check_library(version: tuple[int, int, int] = sqlite3.sqlite_version_info) -> None:
    """Raises `StartupError` when Python's SQLite library is too old."""
    if version < OLDEST_SQLITE:
        raise StartupError(
            f"the SQLite library of this Python is {'.'.join(map(str, version))}, engine sqlite needs "
            f"{'.'.join(map(str, OLDEST_SQLITE))} or newer; use a newer Python or system"
        )


def check_place(path: Path) -> None:
    """Raises `StartupError` where no database file can be."""
    if not path.parent.is_dir():
        raise StartupError(f"cannot keep tasks in {path}: there is no folder {path.parent}; create it")
    if path.exists() and not path.is_file():
        raise StartupError(f"cannot keep tasks in {path}: it is not a regular file")


def connect_writer(path: Path, synchronous: str, lock: WriteLock) -> sqlite3.Connection:
    """A connection for writing to a file with the newest schema; made if it is not there.

    Raises `StartupError` where that can never succeed, and `sqlite3.Error`.
    """
    connection = _connect(path, WRITER_CACHE)
    try:
        if not schema.check(connection):
            # Now, before the first table is there, or never.
            connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StartupError(
                f"cannot keep tasks in {path}: its file system cannot hold a write-ahead log; "
                "choose a path on a disk of this machine"
            )
        connection.execute(f"PRAGMA synchronous = {'FULL' if synchronous == 'full' else 'NORMAL'}")
        if sys.platform == "darwin":
            # There fsync leaves data in the disk's own cache.
            connection.execute("PRAGMA fullfsync = ON")
        connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
        connection.execute(f"PRAGMA journal_size_limit = {LOG_KEPT}")
        schema.migrate(connection)
        # A file that is read-only for this user can be opened, and a transaction begun, but no more.
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

    ``timeout`` is in microseconds.
    """

    def __init__(self, path: Path, timeout: int) -> None:
        self._path = path.with_name(path.name + "-lock")
        self._timeout = timeout / 1_000_000
        self._file: int | None = None

    def open(self) -> None:
        """Raises `OSError` when the file cannot be made."""
        self._file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)

    def close(self) -> None:
        """Let go of the file; it stays where it is, others may be about to lock it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def acquire(self) -> None:
        """Wait for the lock; raises `ServiceUnavailable` when it takes longer than the timeout."""
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
        assert self._file is not None, "the lock's file is open"
        fcntl.flock(self._file, fcntl.LOCK_UN)

    def begin(self, connection: sqlite3.Connection) -> None:
        """Begin a transaction that writes; like `acquire`, for what programs other than Ratus hold."""

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
            # Two that wait the same time would meet again and again.
            time.sleep(random.uniform(_SHORTEST_NAP, _LONGEST_NAP))


def is_busy(error: sqlite3.Error) -> bool:
    """Whether an error says that another connection holds the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def explain(error: sqlite3.Error | OSError) -> str:
    """What went wrong with the file and what to do about it, to be put behind its name."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    reason = _REASONS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
    detail = f"{getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    return f"{reason} ({detail})" if reason else detail


_REASONS = {
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_READONLY: "it is read-only for this user; let the server write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; let the server write the file and its folder",
    sqlite3.SQLITE_PERM: "the system refuses access; let the server write the file and its folder",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database; nothing was changed, choose another path",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup",
    sqlite3.SQLITE_IOERR: "reading or writing it fails; look at the disk and at the system's log",
    sqlite3.SQLITE_BUSY: "another process holds it",
}


def as_answer(error: Exception) -> Exception:
    """What a caller is told whose operation failed with this error; one of its own."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error  # a defect of ours
    if isinstance(error, sqlite3.Error):
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG:
            return PayloadTooLarge("SQLite keeps up to 1,000,000,000 bytes a task")
        return ServiceUnavailable(f"the database fails: {explain(error)}")
    if isinstance(error, OSError):
        return ServiceUnavailable(f"the database fails: {explain(error)}")
    if isinstance(error, ServiceUnavailable):
        return ServiceUnavailable(error.detail)
    if isinstance(error, StartupError):
        return ServiceUnavailable(str(error))
    return error
