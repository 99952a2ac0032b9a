"""The writer: group commit in one thread.

All jobs that wait become one transaction, and no caller is answered before it is on disk. While one group is
being written the next one gathers, so groups grow with the load, and no timer is needed.

After an unforeseen error in one operation the whole group is rolled back. Its operations are then done again,
each in a transaction of its own, so that only the caller of the one that fails gets the error.
"""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable, Iterable
from itertools import groupby
from operator import attrgetter
from pathlib import Path

from ratus.core.errors import RatusError, ServiceUnavailable, StartupError
from ratus_engines.sqlite.connections import WriteLock, check_place, connect_writer
from ratus_engines.sqlite.errors import as_answer, describe
from ratus_engines.sqlite.files import OpenFiles
from ratus_engines.sqlite.notifications import Notifications
from ratus_engines.sqlite.transaction import Clock, Transaction
from ratus_engines.sqlite.worker import Job, Worker

logger = logging.getLogger("ratus.sqlite")

Notify = Callable[[Notifications], None]


class CommitFailed(Exception):
    """The group could not be put on disk, and is rolled back as a whole. ``reason`` is the cause."""

    def __init__(self, reason: Exception) -> None:
        super().__init__(str(reason))
        self.reason = reason


class Writer(Worker):
    """Writes to the file at ``path``. ``listen`` is called on the event loop with a group's notifications.

    ``trouble`` says why the last writes failed; it is empty while they succeed.
    """

    def __init__(self, path: Path, *, synchronous: str, busy_timeout: int, listen: Notify) -> None:
        super().__init__("ratus-sqlite-writer")
        self._path = path
        self._synchronous = synchronous
        self._lock = WriteLock(path, busy_timeout)
        self._listen = listen
        self._connection: sqlite3.Connection | None = None
        self._files = OpenFiles(path)
        self.clock = Clock()
        self.trouble = ""

    def notify(self, notifications: Notifications) -> None:
        self._listen(notifications)

    # ---- life ------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Open the lock and the database. Raises `StartupError`."""
        try:
            check_place(self._path)
            self._lock.open()
            self._lock.acquire()
            try:
                self._connect()
            finally:
                self._lock.release()
        except (sqlite3.Error, OSError, ServiceUnavailable) as error:
            self._lock.close()
            reason = error.detail if isinstance(error, ServiceUnavailable) else describe(error)
            raise StartupError(f"cannot keep tasks in {self._path}: {reason}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            connection = self._connection = connect_writer(self._path, self._synchronous, self._lock)
            self._files.remember(connection)
        return connection

    def end(self) -> None:
        # Closing the last connection to a database copies the log back into it, which needs the lock.
        try:
            self._lock.acquire()
        except (ServiceUnavailable, OSError) as error:
            logger.debug("closing without the lock: %s", error)
        if self._connection is not None:
            self._connection.close()
        self._lock.close()

    # ---- work ------------------------------------------------------------------------------------

    def work(self) -> None:
        waiting = self.waiting()
        try:
            self._lock.acquire()
        except (ServiceUnavailable, OSError) as error:
            # Only these fail: jobs that were submitted meanwhile have not waited that long yet.
            jobs = self.take(waiting)
            self._fail(jobs, error)
            self.answer(jobs)
            return
        try:
            jobs = self.take()
            notifications = self._carry_out(jobs)
        finally:
            self._lock.release()
        self.answer(jobs, notifications)

    def _carry_out(self, jobs: list[Job]) -> Notifications:
        """Do the jobs, in one transaction if that is possible; returns the notifications of what they did."""
        try:
            return self._commit(jobs)
        except CommitFailed as failure:
            self._fail(jobs, failure.reason)
            return Notifications()
        except Exception as error:
            if len(jobs) == 1:
                self._fail(jobs, error)
                return Notifications()
        notifications = Notifications()
        for job in jobs:
            notifications.add(self._carry_out([job]))
        return notifications

    def _commit(self, jobs: list[Job]) -> Notifications:
        try:
            connection = self._connect()
            self._check_files(connection)
            changes = connection.total_changes
            self._lock.begin(connection)
        except (sqlite3.Error, OSError, ServiceUnavailable, StartupError) as error:
            raise CommitFailed(error) from error
        try:
            transaction = Transaction(connection, self.clock)
            _perform(transaction, jobs)
            transaction.finish()
        except BaseException:
            self._roll_back(connection)
            raise
        try:
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            self._overwrite()
            raise CommitFailed(error) from error
        self._files.measure()
        if self.trouble and connection.total_changes > changes:
            logger.info("writing to %s works again", self._path)
            self.trouble = ""
        return transaction.notifications

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            # What the connection has in memory cannot be trusted any more; the file is as it was.
            self._connection = None
            connection.close()

    def _overwrite(self) -> None:
        """Overwrite, in the log, a transaction whose commit failed.

        It may be in the log as a whole, only not synced. SQLite has dropped it, but if the process died now,
        the next one would find it there and take it for committed, although its callers got an error.
        """
        connection = self._connection
        if connection is None:
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            # Skips a number: SQLite writes nothing where nothing changes.
            connection.execute("UPDATE counters SET last = last + 1")
            connection.execute("COMMIT")
        except sqlite3.Error:
            # Even if this commit is not synced either, its write has broken the log's chain of checksums.
            self._roll_back(connection)

    def has_odd_files(self) -> bool:
        """Whether a file was moved, replaced, deleted or cut. Thread-safe. Raises `OSError`, as `missing`."""
        return self.missing() != "" or self._files.is_emptied() or self._files.is_log_cut()

    def missing(self) -> str:
        """Which file was moved, replaced or deleted, in words; empty when none was. Thread-safe.

        Raises `OSError` where the system cannot say.
        """
        return self._files.changed() or self._lock.changed()

    def _check_files(self, connection: sqlite3.Connection) -> None:
        """Raises `ServiceUnavailable` if a file has lost its name or what it held."""
        missing = self.missing()
        if not missing:
            if self._files.is_emptied():
                raise _cut(f"the database file {self._path}")
            if self._files.is_log_cut():
                self._check_log(connection)
            return
        if self._files.lost_only_log():
            # Acknowledged writes are in a log without a name, and would be lost if the process died. This
            # copies them into the database.
            connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
        raise ServiceUnavailable(
            f"{missing} was moved, replaced or deleted while the server runs; "
            "put it back, or restart the server"
        )

    def _check_log(self, connection: sqlite3.Connection) -> None:
        """Check a log that is shorter than it was. Raises `ServiceUnavailable` where something is missing.

        Nothing is missing where SQLite began the log anew, or where another program cut it once all of it was
        copied into the database.
        """
        try:
            _, pages, copied = connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            ((page_size,),) = connection.execute("PRAGMA page_size").fetchall()
        except sqlite3.Error as error:
            raise _cut(f"the log of {self._path}") from error
        if copied < pages and not self._files.log_holds(pages, page_size):
            raise _cut(f"the log of {self._path}")
        self._files.measure()

    def _fail(self, jobs: Iterable[Job], error: Exception) -> None:
        for job in jobs:
            job.answer = as_answer(error)
        answer = as_answer(error)
        if isinstance(answer, ServiceUnavailable) and answer.detail != self.trouble:
            self.trouble = answer.detail
            logger.error("writing to %s fails: %s", self._path, answer.detail)


def _perform(transaction: Transaction, jobs: Iterable[Job]) -> None:
    """Do the jobs by their ``order``: those with 0 first, one by one, then all of each other one together."""
    for order, group in groupby(sorted(jobs, key=_order), key=_order):
        if order:
            together = list(group)
            answers = together[0].work(transaction, [job.arguments for job in together])
            for job, answer in zip(together, answers, strict=True):
                job.answer = answer
            continue
        for job in group:
            try:
                job.answer = job.work(transaction, *job.arguments)
            except RatusError as error:
                job.answer = error


def _cut(what: str) -> ServiceUnavailable:
    return ServiceUnavailable(
        f"{what} was cut while the server runs, and what it held is lost; "
        "restore a backup and restart the server"
    )


_order = attrgetter("order")
