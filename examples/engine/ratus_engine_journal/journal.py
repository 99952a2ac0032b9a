"""The journal file: a line of JSON for every change, on disk before the change is acknowledged."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ratus.core.errors import ServiceUnavailable, StartupError
from ratus.core.records import TaskRecord


class RecordLine(msgspec.Struct, omit_defaults=True):
    """A record as it is from now on: its members as a JSON text, ``None`` for one that is gone."""

    kind: str
    id: str
    version: int = 0
    members: str | None = None


class LabelLine(msgspec.Struct, omit_defaults=True):
    """Whether a label of a topic is in use from now on: whether the topic has lanes by it."""

    topic: str
    name: str
    in_use: bool = True


class LaneLine(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is kept of a lane beside its tasks, as it is from now on; without a label, of the whole topic.

    ``served`` is the number of its last turn, 0 for a lane that there is not: its label is not in use, or no
    task of it is pending or active. ``allowed`` and ``held`` are its times of rate and hold.
    """

    topic: str
    label: str | None = None
    value: str | None = None
    served: int = 0
    allowed: int = 0
    held: int = 0


class Line(msgspec.Struct, omit_defaults=True):
    """One change: something as it is from now on, a task that is gone, or the last number given."""

    put: TaskRecord | None = None
    gone: str | None = None
    record: RecordLine | None = None
    label: LabelLine | None = None
    lane: LaneLine | None = None
    last: int = 0


class Journal:
    """One journal file, held by one process at a time."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._file = -1
        self._lock = -1
        self._size = 0

    def open(self) -> Iterator[Line]:
        """Lock the file and read its lines. Raises `StartupError` when it cannot be locked or read.

        A last line that is not whole was never acknowledged: the process died while it wrote the line. Any
        other line that cannot be read is damage.
        """
        try:
            self._lock = os.open(f"{self._path}.lock", os.O_WRONLY | os.O_CREAT, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            text = self._path.read_bytes() if self._path.exists() else b""
        except BlockingIOError:
            self.close()
            raise StartupError(f"another server has {self._path}: stop it, or choose another path") from None
        except OSError as error:
            self.close()
            raise StartupError(f"cannot keep tasks in {self._path}: {error.strerror}") from None
        whole, _, _ = text.rpartition(b"\n")
        for number, line in enumerate(whole.split(b"\n") if whole else (), 1):
            try:
                yield msgspec.json.decode(line, type=Line)
            except msgspec.MsgspecError as error:
                self.close()
                raise StartupError(f"{self._path} is damaged in line {number}: {error}") from None

    def begin(self, lines: Iterable[Line]) -> None:
        """Start a new file with these lines, in place of the old one, which grew with every change.

        Raises `StartupError` when the new file cannot be written.
        """
        new = self._path.with_name(f"{self._path.name}.new")
        try:
            self._file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
            self._size = 0
            self.write(lines)
            new.replace(self._path)
            folder = os.open(self._path.parent, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        except (OSError, ServiceUnavailable) as error:
            self.close()
            raise StartupError(f"cannot write {new}: {error}") from None

    def write(self, lines: Iterable[Line]) -> None:
        """Append lines, to disk. Raises `ServiceUnavailable`, and then nothing is written."""
        text = b"".join(msgspec.json.encode(line) + b"\n" for line in lines)
        if not text:
            return
        try:
            left = memoryview(text)
            while left:
                left = left[os.write(self._file, left) :]
            os.fsync(self._file)
        except OSError as error:
            os.ftruncate(self._file, self._size)
            raise ServiceUnavailable(f"{self._path} cannot be written: {error.strerror}") from error
        self._size += len(text)

    def close(self) -> None:
        """Close the file and release its lock."""
        for number in (self._file, self._lock):
            if number >= 0:
                os.close(number)
        self._file = self._lock = -1
