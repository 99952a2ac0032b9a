"""The reader: a thread whose connection cannot write and never waits for the writer.

Each group of reads is one read transaction, begun after all of them were asked for. So a read sees whatever
was answered before it was asked.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from ratus.errors import RatusError, StartupError
from ratus_engines.sqlite.connections import as_answer, connect_reader, explain
from ratus_engines.sqlite.notices import Notices
from ratus_engines.sqlite.worker import Worker


class Reader(Worker):
    """Work gets the connection before its own arguments."""

    def __init__(self, path: Path, *, busy_timeout: int) -> None:
        super().__init__("ratus-sqlite-reader")
        self._path = path
        self._busy_timeout = busy_timeout
        self._connection: sqlite3.Connection

    def begin(self) -> None:
        """Raises `StartupError`."""
        try:
            self._connection = connect_reader(self._path, self._busy_timeout)
        except sqlite3.Error as error:
            raise StartupError(f"cannot read {self._path}: {explain(error)}") from error

    def tell(self, notices: Notices) -> None:
        """Reading changes nothing."""

    def work(self) -> None:
        jobs = self.take()
        connection = self._connection
        for job in jobs:
            try:
                if not connection.in_transaction:
                    connection.execute("BEGIN")
                job.answer = job.work(connection, *job.arguments)
            except RatusError as error:
                job.answer = error
            except Exception as error:
                job.answer = as_answer(error)
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        self.answer(jobs)

    def end(self) -> None:
        self._connection.close()
