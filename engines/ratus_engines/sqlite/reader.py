"""The reader: a thread whose connection cannot write and never waits for the writer.

Each group of reads is one read transaction, begun after all of them were asked for. So a read sees whatever
was answered before it was asked.
"""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

from ratus.core.errors import RatusError, StartupError
from ratus_engines.sqlite.connections import connect_reader
from ratus_engines.sqlite.errors import as_answer, describe
from ratus_engines.sqlite.notifications import Notifications
from ratus_engines.sqlite.worker import Worker

logger = logging.getLogger("ratus.sqlite")


class Reader(Worker):
    """The worker for queries. The ``work`` of a job gets the connection before the job's arguments."""

    def __init__(self, path: Path, *, busy_timeout: int) -> None:
        super().__init__("ratus-sqlite-reader")
        self._path = path
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection | None = None

    def begin(self) -> None:
        """Open the connection. Raises `StartupError`."""
        try:
            self._connect()
        except sqlite3.Error as error:
            raise StartupError(f"cannot read {self._path}: {describe(error)}") from error

    def _connect(self) -> sqlite3.Connection:
        connection = self._connection
        if connection is None:
            connection = self._connection = connect_reader(self._path, self._busy_timeout)
        return connection

    def notify(self, notifications: Notifications) -> None:
        """Do nothing: reads change nothing."""

    def work(self) -> None:
        jobs = self.take()
        for job in jobs:
            try:
                connection = self._connect()
                if not connection.in_transaction:
                    connection.execute("BEGIN")
                job.answer = job.work(connection, *job.arguments)
            except RatusError as error:
                job.answer = error
            except Exception as error:
                job.answer = as_answer(error)
        self.answer(jobs)
        self._end_transaction()

    def _end_transaction(self) -> None:
        connection = self._connection
        try:
            if connection is not None and connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            # Its transaction did not end, so it would see the database as it is now for ever.
            logger.warning("the connection that reads %s is replaced: %s", self._path, describe(error))
            self._connection = None
            if connection is not None:
                connection.close()

    def end(self) -> None:
        if self._connection is not None:
            self._connection.close()
