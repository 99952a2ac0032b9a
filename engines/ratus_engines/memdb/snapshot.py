"""Snapshots of the memory engine: what is in the file, and how it is written while requests are served.

The file is a line that names the format, then frames (a length of four bytes, then msgpack): a header
(members of a task, topics, labels in use, the last sequence number), records of all kinds by the hundred, an
empty frame, lanes by the hundred, an empty frame, tasks in order of creation by the hundred, an empty frame,
and at last the number of tasks and a BLAKE2b checksum of everything before. A file that ends early or differs
in a bit is never loaded in part: the server refuses to start and names the file. Format 1, which Ratus 0.1
wrote, has no records: its header says which topics are paused. Format 2 has no lanes.

The file is written in slices between requests: each task is consistent by itself, but the file as a whole is
not the state of one instant. It is written under another name and synced, then renamed over the old one, and
the folder is synced: at any moment the name holds one whole snapshot. Writing and syncing happen in a thread,
encoding on the event loop.
"""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, TypeVar

import msgspec

from ratus.core.errors import StartupError
from ratus.core.members import KEPT, Object
from ratus.core.records import Rare, TaskRecord
from ratus.engine import EngineMetric
from ratus_engines import private_files
from ratus_engines.memdb.records import Row

logger = logging.getLogger("ratus.memdb")

FORMAT = b"ratus memdb snapshot 3\n"
_WITHOUT_LANES = b"ratus memdb snapshot 2\n"
_WITHOUT_RECORDS = b"ratus memdb snapshot 1\n"
MEMBERS = TaskRecord.__struct_fields__
_LENGTH = 4
_NO_FRAME = bytes(_LENGTH)
_DIGEST = 32

# Tasks in a frame at most, and about how many bytes: half a millisecond to a millisecond of encoding.
FRAME = 256
FRAME_BYTES = 1024 * 1024

# Bytes that are read at once to compute the checksum.
_CHUNK = 1024 * 1024

SECOND = 1_000_000

Result = TypeVar("Result")


class Damaged(Exception):
    """The file is not a whole snapshot."""


class Header(msgspec.Struct):
    """What a snapshot holds beside records and tasks.

    ``members`` names the values in the row of a task. ``sequence`` is the last number that was given to a
    task, a record or a lane. ``topics`` are in order of creation; ``paused`` ones are named in format 1 only.
    ``labels`` are those in use, by topic.
    """

    members: list[str]
    sequence: int
    topics: list[str]
    paused: list[str] = []
    labels: dict[str, list[str]] = {}


LaneRow = tuple[str, str | None, str | None, int, int, int]
"""What is known of a lane: topic, label, value, when it was served (0: it has no tasks), and its times of
rate and hold. Without a label these are the times of the topic."""


class Loading(NamedTuple):
    """What is called with what stands before the tasks: the header, then records and lanes in slices."""

    begin: Callable[[Header], None]
    records: Callable[[list[Row]], None]
    lanes: Callable[[list[LaneRow]], None]


class Snapshots:
    """One snapshot file and when it is written.

    ``interval`` is the time between two snapshots, in microseconds. ``trouble`` says why snapshots fail; it
    is empty while they succeed.
    """

    def __init__(self, path: str, interval: int) -> None:
        self.path = Path(path).resolve()  # what a link points to is replaced, not the link
        self.interval = interval
        self.trouble = ""
        self._lock: BinaryIO | None = None
        self._has_lost_lock = False
        self._saved_at = 0
        self._saved_at_monotonic = time.monotonic()
        self._saved_changes = 0
        self._size = 0  # of the file, in bytes; 0 while there is none
        self._seconds = 0.0  # that writing the last snapshot took
        self._failures = 0

    def check_folder(self) -> None:
        """Check that the path can hold a snapshot. Raises `StartupError` where it cannot.

        A folder that is not writable at this moment is only logged, and put into ``trouble``.
        """
        folder = self.path.parent
        if not folder.is_dir():
            raise StartupError(
                f"cannot keep snapshots in {self.path}: there is no folder {folder}; create it"
            )
        if self.path.exists() and not self.path.is_file():
            raise StartupError(f"cannot keep snapshots in {self.path}: it is not a regular file")
        if not os.access(folder, os.W_OK):
            self._fail(f"the folder {folder} is not writable")

    def lock(self) -> None:
        """Keep other servers away from the file until `unlock`, or until this process ends, however it ends.

        Raises `StartupError` when another server has the lock: the two would overwrite each other's tasks.
        Where no lock file can be made, there is no lock: no snapshot can be written there either.
        """
        try:
            self._lock = private_files.open_new(self.path.with_name(self.path.name + ".lock"))
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.unlock()
            raise StartupError(
                f"another server keeps its snapshots in {self.path}: stop it, or choose another path"
            ) from None
        except OSError as error:
            logger.debug("no lock for %s: %s", self.path, error)

    def unlock(self) -> None:
        """Release the lock. The lock file is not deleted: another server may be about to lock it."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _hold_lock(self) -> None:
        """Make sure that the locked file is still the one that another server would find.

        Where it was moved, replaced or deleted, a new lock file is made and locked. Raises `OSError` when
        another server has locked that by now: its snapshot must not be overwritten.
        """
        held = self._lock
        if held is not None and _is_at(held, Path(held.name)):
            return
        if held is None and not self._has_lost_lock:
            return  # the lock file could not be made at the start
        self._has_lost_lock, self._lock = True, None
        try:
            self.lock()
        except StartupError as error:
            raise OSError(str(error)) from None
        finally:
            if held is not None:
                held.close()
        if self._lock is not None:
            self._has_lost_lock = False
            logger.warning(
                "the lock file of %s was moved, replaced or deleted while the server runs; it was made anew",
                self.path,
            )

    def is_due(self, now: int, changes: int) -> bool:
        """Whether to write a snapshot: the last one failed, or there are changes and the interval is over.

        ``changes`` is the engine's count of writes.
        """
        if self.trouble:
            return True
        if changes == self._saved_changes:
            return False
        # The interval is over when either clock says so: the wall clock may have been set back.
        passed = (time.monotonic() - self._saved_at_monotonic) * SECOND
        return not 0 <= now - self._saved_at < self.interval or passed >= self.interval

    async def save(
        self,
        now: int,
        changes: int,
        header: Header,
        records: Iterable[list[Row]],
        lanes: Iterable[list[LaneRow]],
        slices: Iterable[Sequence[TaskRecord]],
    ) -> bool:
        """Write a snapshot. Returns whether that succeeded; if not, it is logged and ``trouble`` says why."""
        started = time.monotonic()
        try:
            self._hold_lock()
            self._size = await self._write(header, records, lanes, slices)
        except OSError as error:
            self._failures += 1
            self._fail(error.strerror or str(error))
            return False
        if self.trouble:
            logger.info("snapshots to %s work again", self.path)
        self.trouble = ""
        self._seconds = time.monotonic() - started
        self._saved_at, self._saved_changes = now, changes
        self._saved_at_monotonic = started
        logger.debug("wrote a snapshot of %d bytes to %s", self._size, self.path)
        return True

    def loaded(self, now: int, changes: int) -> None:
        """Note that the snapshot was loaded: memory and file hold the same. ``changes`` as in `is_due`."""
        self._saved_at, self._saved_changes = now, changes
        self._saved_at_monotonic = time.monotonic()
        try:
            self._size = self.path.stat().st_size
        except FileNotFoundError:
            self._size = 0

    def metrics(self, now: int, changes: int) -> tuple[EngineMetric, ...]:
        """Metrics of the snapshot file, at time ``now``. ``changes`` is the engine's count of writes."""
        is_known = self._saved_at != 0  # not yet while the file is being loaded
        return (
            EngineMetric(
                "snapshot_age_seconds",
                "gauge",
                "Seconds since the last good snapshot was begun, or since it was loaded.",
                max(0, now - self._saved_at) / SECOND if is_known else 0,
            ),
            EngineMetric(
                "snapshot_unsaved_changes",
                "gauge",
                "Writes since then: what a crash would lose.",
                changes - self._saved_changes if is_known else 0,
            ),
            EngineMetric("snapshot_bytes", "gauge", "Size of the last good snapshot.", self._size),
            EngineMetric(
                "snapshot_duration_seconds",
                "gauge",
                "How long writing the last good snapshot took; 0 before the first.",
                self._seconds,
            ),
            EngineMetric(
                "snapshot_failures_total", "counter", "Snapshots that could not be written.", self._failures
            ),
        )

    def _fail(self, reason: str) -> None:
        self.trouble = f"snapshots to {self.path} fail ({reason}); a crash would lose what is newer"
        logger.error("%s", self.trouble)

    # ---- writing -------------------------------------------------------------------------------------

    async def _write(
        self,
        header: Header,
        records: Iterable[list[Row]],
        lanes: Iterable[list[LaneRow]],
        slices: Iterable[Sequence[TaskRecord]],
    ) -> int:
        """Write a snapshot; returns its size in bytes. Requests run between two slices.

        Raises `OSError` when it could not be written; the old snapshot is then as it was.
        """
        partial_path = self.path.with_name(self.path.name + ".partial")
        digest = hashlib.blake2b(digest_size=_DIGEST)
        count = 0
        try:
            with private_files.open_new(partial_path) as file:

                async def write(data: bytes) -> None:
                    digest.update(data)
                    await _in_thread(lambda: file.write(data))

                await write(FORMAT + _frame(header))
                for part in (records, lanes):
                    for rows in part:
                        await write(_frame(rows))
                    await write(_NO_FRAME)
                for tasks in slices:
                    count += len(tasks)
                    await write(_frame([msgspec.structs.astuple(task) for task in tasks]))
                end = _NO_FRAME + count.to_bytes(8, "big")
                digest.update(end)
                return await _in_thread(lambda: self._finish(file, partial_path, end + digest.digest()))
        except BaseException:
            partial_path.unlink(missing_ok=True)
            raise

    def _finish(self, file: BinaryIO, partial_path: Path, end: bytes) -> int:
        file.write(end)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
        # A file that a killed process left behind under this name may have had other permissions.
        os.fchmod(file.fileno(), private_files.MODE)
        partial_path.replace(self.path)
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return size

    # ---- reading -------------------------------------------------------------------------------------

    async def read(self, loading: Loading) -> AsyncIterator[list[TaskRecord]]:
        """Yield the tasks of the snapshot in slices; nothing where there is no file.

        What stands before the tasks is given to ``loading`` first. The checksum is compared before any of
        this. Raises `StartupError` naming the file when it is damaged or cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        except OSError as error:
            raise StartupError(f"cannot read the snapshot {self.path}: {error.strerror}") from error
        with file:
            try:
                await _in_thread(lambda: _verify(file))
                for tasks in self._frames(file, loading):
                    yield tasks
                    await asyncio.sleep(0)
            except (Damaged, msgspec.MsgspecError, ValueError, TypeError, OSError) as error:
                raise StartupError(
                    f"the snapshot {self.path} is damaged ({error}): nothing was loaded. Restore it from a "
                    f"backup, or move it away to start empty"
                ) from error

    def _frames(self, file: BinaryIO, loading: Loading) -> Iterable[list[TaskRecord]]:
        file.seek(0)
        found = file.read(len(FORMAT))
        header = msgspec.msgpack.decode(_take_frame(file), type=Header)
        loading.begin(header)
        records = msgspec.msgpack.Decoder(list[Row])
        while found != _WITHOUT_RECORDS and (frame := _take_frame(file)):
            loading.records(records.decode(frame))
            yield []
        lanes = msgspec.msgpack.Decoder(list[LaneRow])
        while found == FORMAT and (frame := _take_frame(file)):
            loading.lanes(lanes.decode(frame))
            yield []
        make = _maker(header.members)
        rows = msgspec.msgpack.Decoder(list[list[Any]])
        count = 0
        while frame := _take_frame(file):
            tasks = [make(row) for row in rows.decode(frame)]
            count += len(tasks)
            yield tasks
        if int.from_bytes(_take(file, 8), "big") != count:
            raise Damaged("tasks are missing")


def _is_at(file: BinaryIO, path: Path) -> bool:
    """Whether this open file has this name."""
    try:
        named = os.stat(path)
    except OSError:
        return False
    return os.path.samestat(os.fstat(file.fileno()), named)


def _verify(file: BinaryIO) -> None:
    """Compare the checksum. Nothing in the file is trusted before that, above all no length.

    Raises `Damaged`.
    """
    if file.read(len(FORMAT)) not in (FORMAT, _WITHOUT_LANES, _WITHOUT_RECORDS):
        raise Damaged("it is not a snapshot of this format")
    left = file.seek(0, os.SEEK_END) - _DIGEST
    file.seek(0)
    digest = hashlib.blake2b(digest_size=_DIGEST)
    while left > 0 and (data := file.read(min(left, _CHUNK))):
        digest.update(data)
        left -= len(data)
    if left or file.read() != digest.digest():
        raise Damaged("its checksum is wrong")


def _take(file: BinaryIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) < size:
        raise Damaged("it ends early")
    return data


def _take_frame(file: BinaryIO) -> bytes:
    return _take(file, int.from_bytes(_take(file, _LENGTH), "big"))


def _frame(value: object) -> bytes:
    data = msgspec.msgpack.encode(value)
    return len(data).to_bytes(_LENGTH, "big") + data


def _maker(members: Sequence[str]) -> Callable[[list[Any]], TaskRecord]:
    """A function that makes a task of a row with these members; those that are missing get their defaults.

    Raises `Damaged` for members that this version does not know.
    """
    _check_known(members, MEMBERS)
    structs = [(at, _STRUCTS[name]) for at, name in enumerate(members) if name in _STRUCTS]
    in_order = tuple(members) == MEMBERS

    def make(row: list[Any]) -> TaskRecord:
        for at, struct in structs:
            if (value := row[at]) is not None:
                _check_known(value, struct.__struct_fields__)
                row[at] = msgspec.convert(value, struct)
        return TaskRecord(*row) if in_order else TaskRecord(**dict(zip(members, row, strict=True)))

    return make


def _check_known(members: Iterable[str], known: Sequence[str]) -> None:
    """Raise `Damaged` for members that this version does not know: they would be lost."""
    unknown = set(members) - set(known)
    if unknown:
        raise Damaged(f"a newer version wrote it, with {', '.join(sorted(unknown))}")


# Members that are structs: a frame holds their members by name.
_STRUCTS: dict[str, type[msgspec.Struct]] = {
    "rare": Rare,
    **{name: member.type.record for name, member in KEPT.items() if isinstance(member.type, Object)},
}


async def _in_thread(work: Callable[[], Result]) -> Result:
    """Run blocking file work in a thread; when cancelled, wait for it, so that its file is not closed
    meanwhile."""
    future = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        await asyncio.wait([future])
        raise
