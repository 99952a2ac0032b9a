"""A consistent copy of a database that servers may be using.

SQLite's backup interface copies page by page. The source is read in one read transaction, so the copy is the
file as it was at the moment the backup began. Writers go on meanwhile, and their log grows until the backup
is done. The copy is checked and synced to disk before it gets its name.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

from ratus.core.errors import StartupError
from ratus_engines import private_files
from ratus_engines.sqlite import schema
from ratus_engines.sqlite.connections import check_library, connect_reader
from ratus_engines.sqlite.errors import describe

# Pages that are copied at once (4 MiB); the progress is reported after each.
STEP = 1024


def copy(source: Path, target: Path, busy_timeout: int, progress: Callable[[int, int], None]) -> None:
    """Copy the database at ``source`` to ``target``, which must not exist.

    ``progress`` is called with the bytes that are copied and the bytes of the whole. ``busy_timeout`` is in
    microseconds. Raises `StartupError` when the copy cannot be made; then nothing is left of it.
    """
    check_library()
    if not source.is_file():
        raise StartupError(f"there is no database {source} to copy; name it with --sqlite-path")
    if os.path.lexists(target):
        raise StartupError(f"{target} exists already; name a new file, nothing is overwritten")
    if not target.parent.is_dir():
        raise StartupError(f"cannot write {target}: there is no folder {target.parent}; create it")
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        _copy(source, partial, busy_timeout, progress)
        _check(partial)
        _publish(partial, target)
    except schema.Foreign as foreign:
        raise StartupError(f"{source} {foreign}") from None
    except FileExistsError:
        raise StartupError(f"{target} came into being meanwhile; name a new file") from None
    except (sqlite3.Error, OSError) as error:
        raise StartupError(f"cannot copy {source} to {target}: {describe(error)}") from error
    finally:
        for leftover in (partial, *(partial.with_name(partial.name + end) for end in ("-journal", "-wal"))):
            leftover.unlink(missing_ok=True)


def _copy(source: Path, partial: Path, busy_timeout: int, progress: Callable[[int, int], None]) -> None:
    private_files.make(partial)
    with (
        contextlib.closing(connect_reader(source, busy_timeout)) as origin,
        contextlib.closing(sqlite3.connect(partial.absolute(), isolation_level=None)) as copied,
    ):
        # As long as this transaction lasts, this connection sees one state of the source.
        origin.execute("BEGIN")
        if not schema.check(origin):
            raise StartupError(f"{source} holds no tasks yet; there is nothing to copy")
        (page_size,) = origin.execute("PRAGMA page_size").fetchone()

        def report(status: int, remaining: int, total: int) -> None:
            progress((total - remaining) * page_size, total * page_size)

        # `_publish` syncs the whole copy, once.
        copied.execute("PRAGMA synchronous = OFF")
        origin.backup(copied, pages=STEP, progress=report, sleep=0)
        origin.execute("ROLLBACK")


def _check(copied: Path) -> None:
    """Check the copy. Raises `sqlite3.Error` if it is damaged."""
    with contextlib.closing(sqlite3.connect(copied.absolute(), isolation_level=None)) as connection:
        problems = connection.execute("PRAGMA quick_check(1)").fetchall()
    if problems != [("ok",)]:
        raise sqlite3.DatabaseError(f"the copy is damaged, and so may be the source: {problems[0][0]}")


def _publish(partial: Path, target: Path) -> None:
    """Sync the copy, then give it its name. Raises `FileExistsError` if the name is taken by now."""
    _sync(partial)
    try:
        # A link, unlike a rename, never takes the place of another file.
        os.link(partial, target)
    except FileExistsError:
        raise
    except OSError:  # not every file system has links
        if os.path.lexists(target):
            raise FileExistsError from None
        partial.rename(target)
    _sync(target.parent)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
