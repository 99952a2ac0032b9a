"""What errors of the database mean: to a caller, and to an operator."""

from __future__ import annotations

import sqlite3

from ratus.core.errors import PayloadTooLarge, ServiceUnavailable, StartupError

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_PROTOCOL})


def is_busy(error: sqlite3.Error) -> bool:
    """Whether an error says that another connection holds the file."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _BUSY


def describe(error: sqlite3.Error | OSError) -> str:
    """What went wrong with the file and what to do about it: a text that follows its name in a message."""
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


def as_answer(error: BaseException) -> Exception:
    """The exception to raise for a caller whose operation failed with ``error``.

    Each caller gets a new one, except that a defect is passed on as it is.
    """
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError):
        return error  # a defect of this engine
    if isinstance(error, sqlite3.Error):
        if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_TOOBIG:
            return PayloadTooLarge("SQLite keeps up to 1,000,000,000 bytes a task")
        return ServiceUnavailable(f"the database fails: {describe(error)}")
    if isinstance(error, OSError):
        return ServiceUnavailable(f"the database fails: {describe(error)}")
    if isinstance(error, ServiceUnavailable):
        return ServiceUnavailable(error.detail)
    if isinstance(error, StartupError):
        return ServiceUnavailable(str(error))
    if isinstance(error, Exception):
        return error
    return RuntimeError(f"the database failed: {error!r}")  # a SystemExit must not reach an event loop
