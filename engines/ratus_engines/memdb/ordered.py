"""Tasks in order: of their creation, or of one of their times. What has a ``sequence`` can be kept so.

An order is a row of chunks. A chunk is up to `CHUNK` sorted keys and the tasks beside them; a list of each
chunk's largest key finds the chunk. Adding, removing and finding are two binary searches in C and a short
memory move, so the cost grows only with the logarithm of the size; adding at the end, the usual case, is an
append. Nothing is removed lazily: no operation ever pays for a clean-up.

The keys of a chunk stand side by side in an array of 64-bit integers. As separate objects they would be
scattered over the memory, and with a million tasks fetching them would take longer than the search.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Callable
from operator import attrgetter
from typing import Any, Generic, Protocol, TypeVar

from ratus_engines.memdb.untracked import untrack

# Large enough that a million keys have few chunks, small enough that moving half a chunk is cheap.
CHUNK = 256

# `ByTime` keeps the largest key of a chunk as one integer, the time with the task's ``sequence`` in its low
# bits: that compares faster than a pair. 40 bits hold a trillion tasks.
_SEQUENCE_BITS = 40

_sequence = attrgetter("sequence")


class Numbered(Protocol):
    """What can be kept in order: ``sequence`` is unique among all in one order, and below 2 to the 40."""

    sequence: int


Item = TypeVar("Item", bound=Numbered)


_NO_LARGEST: list[int] = []
_NO_KEYS: list[array[int]] = []
_NO_TASKS: list[list[Any]] = []


class _Chunks(Generic[Item]):
    """What both orders have in common."""

    __slots__ = ("_keys", "_largest", "_size", "_tasks")

    def __init__(self) -> None:
        # Until the first task comes, all orders share these lists: there may be a million orders without one.
        self._largest: list[int] = _NO_LARGEST
        self._keys: list[array[int]] = _NO_KEYS
        self._tasks: list[list[Item]] = _NO_TASKS
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def first(self) -> Item | None:
        """The task that comes first, or ``None``."""
        return self._tasks[0][0] if self._size else None

    def _open_chunk(self, largest: int, key: int, task: Item) -> None:
        """Append a new chunk that holds one task."""
        if self._largest is _NO_LARGEST:
            self._largest, self._keys, self._tasks = [], [], []
        if self._tasks:
            untrack(self._tasks[-1])  # the last chunk so far, which is usually full
        self._largest.append(largest)
        self._keys.append(array("q", (key,)))
        self._tasks.append([task])

    def _halve(self, chunk: int) -> None:
        """Split a chunk in two. The caller puts the largest key of the first half into ``_largest``."""
        keys, tasks = self._keys[chunk], self._tasks[chunk]
        half = len(keys) // 2
        self._keys.insert(chunk + 1, keys[half:])
        self._tasks.insert(chunk + 1, tasks[half:])
        del keys[half:]
        del tasks[half:]
        untrack(tasks)
        untrack(self._tasks[chunk + 1])

    def _drop_chunk(self, chunk: int) -> None:
        """Remove a chunk that has become empty."""
        del self._largest[chunk]
        del self._keys[chunk]
        del self._tasks[chunk]


class ByCreation(_Chunks[Item]):
    """Tasks by ``sequence``, their place in the order of creation, which is unique."""

    __slots__ = ()

    def add(self, task: Item) -> None:
        """Add a task. No other may have its ``sequence``; that is not checked."""
        self._size += 1
        key = task.sequence
        largest = self._largest
        if not largest or key > largest[-1]:  # the usual case
            if largest and len(keys := self._keys[-1]) < CHUNK:
                keys.append(key)
                self._tasks[-1].append(task)
                largest[-1] = key
            else:
                self._open_chunk(key, key, task)
            return
        chunk = bisect_left(largest, key)
        keys = self._keys[chunk]
        at = bisect_left(keys, key)
        keys.insert(at, key)
        self._tasks[chunk].insert(at, task)
        if len(keys) > CHUNK:
            self._halve(chunk)
            largest.insert(chunk, keys[-1])

    def remove(self, task: Item) -> None:
        """Remove a task. Raises `KeyError` when it is not there."""
        if self._size and self._tasks[0][0] is task:  # the usual case
            chunk = at = 0
        else:
            chunk, at = self._find(task.sequence)
        self._size -= 1
        keys = self._keys[chunk]
        del keys[at]
        del self._tasks[chunk][at]
        if not keys:
            self._drop_chunk(chunk)
        elif at == len(keys):
            self._largest[chunk] = keys[-1]

    def replace(self, task: Item) -> None:
        """Put a task in the place of the one that has its ``sequence``. Raises `KeyError` when none has."""
        chunk, at = self._find(task.sequence)
        self._tasks[chunk][at] = task

    def _find(self, key: int) -> tuple[int, int]:
        chunk = bisect_left(self._largest, key)
        if chunk == len(self._largest):
            raise KeyError(key)
        keys = self._keys[chunk]
        at = bisect_left(keys, key)
        if keys[at] != key:
            raise KeyError(key)
        return chunk, at

    def after(self, sequence: int | None, count: int) -> list[Item]:
        """Up to ``count`` tasks behind a sequence number, in order; ``None``: from the start.

        The list is a copy, so a caller can walk through a large order in slices while it changes.
        """
        if not self._size:
            return []
        if sequence is None:
            chunk = at = 0
        else:
            chunk = bisect_right(self._largest, sequence)
            if chunk == len(self._largest):
                return []
            at = bisect_right(self._keys[chunk], sequence)
        found = self._tasks[chunk][at : at + count]
        while len(found) < count and (chunk := chunk + 1) < len(self._tasks):
            found += self._tasks[chunk][: count - len(found)]
        return found


class ByTime(_Chunks[Item]):
    """Tasks by a time in microseconds, and by ``sequence`` where times are equal."""

    __slots__ = ()

    def add(self, time: int, task: Item) -> None:
        """Add a task under this time. It must not be in this order yet; that is not checked."""
        self._size += 1
        key = time << _SEQUENCE_BITS | task.sequence
        largest = self._largest
        if not largest or key > largest[-1]:  # the usual case
            if largest and len(times := self._keys[-1]) < CHUNK:
                times.append(time)
                self._tasks[-1].append(task)
                largest[-1] = key
            else:
                self._open_chunk(key, time, task)
            return
        chunk = bisect_left(largest, key)
        times = self._keys[chunk]
        tasks = self._tasks[chunk]
        at = bisect_left(times, time)
        if times[at] == time:
            at = self._among_equals(chunk, at, task)
        times.insert(at, time)
        tasks.insert(at, task)
        if len(times) > CHUNK:
            self._halve(chunk)
            largest.insert(chunk, self._largest_of(chunk))

    def remove(self, time: int, task: Item) -> None:
        """Remove a task that was added with this time. Raises `KeyError` when it is not there."""
        if not self.discard(time, task):
            raise KeyError(time)

    def discard(self, time: int, task: Item) -> bool:
        """Remove a task if it is there and was added with this time. Returns whether it was there."""
        if self._size and self._tasks[0][0] is task:  # the usual case
            chunk = at = 0
        else:
            chunk = bisect_left(self._largest, time << _SEQUENCE_BITS | task.sequence)
            if chunk == len(self._largest):
                return False
            at = bisect_left(self._keys[chunk], time)
            tasks = self._tasks[chunk]
            if tasks[at] is not task:
                at = self._among_equals(chunk, at, task)
                if at == len(tasks) or tasks[at] is not task:
                    return False
        self._size -= 1
        times = self._keys[chunk]
        del times[at]
        del self._tasks[chunk][at]
        if not times:
            self._drop_chunk(chunk)
        elif at == len(times):
            self._largest[chunk] = self._largest_of(chunk)
        return True

    def _among_equals(self, chunk: int, at: int, task: Item) -> int:
        """The place of a task among those of a chunk that have the time of the one at ``at``."""
        times = self._keys[chunk]
        end = bisect_right(times, times[at], at)
        return bisect_left(self._tasks[chunk], task.sequence, at, end, key=_sequence)

    def _largest_of(self, chunk: int) -> int:
        return self._keys[chunk][-1] << _SEQUENCE_BITS | self._tasks[chunk][-1].sequence

    def first_until(self, time: int) -> Item | None:
        """The task that comes first, if it has this time or an earlier one."""
        return self._tasks[0][0] if self._size and self._keys[0][0] <= time else None

    def has(self, time: int, task: Item) -> bool:
        """Whether a task that would have this time is in this order."""
        chunk = bisect_left(self._largest, time << _SEQUENCE_BITS | task.sequence)
        if chunk == len(self._largest):
            return False
        tasks = self._tasks[chunk]
        at = self._among_equals(chunk, bisect_left(self._keys[chunk], time), task)
        return at < len(tasks) and tasks[at] is task

    def first_time(self) -> int | None:
        """The time of the task that comes first, or ``None``."""
        return self._keys[0][0] if self._size else None

    def first_after(self, time: int) -> int | None:
        """The first time that is later than this one, or ``None``."""
        chunk = bisect_left(self._largest, (time + 1) << _SEQUENCE_BITS)
        if chunk == len(self._keys):
            return None
        times = self._keys[chunk]
        return times[bisect_right(times, time)]

    def until(self, time: int) -> int:
        """How many tasks have this time or an earlier one."""
        chunk = bisect_left(self._largest, (time + 1) << _SEQUENCE_BITS)
        before = sum(map(len, self._keys[:chunk]))
        return before if chunk == len(self._keys) else before + bisect_right(self._keys[chunk], time)

    def head(self, count: int, until: int) -> list[Item]:
        """The first tasks, up to ``count``, that have the time ``until`` or an earlier one."""
        found: list[Item] = []
        for times, tasks in zip(self._keys, self._tasks, strict=True):
            end = len(times) if times[-1] <= until else bisect_right(times, until)
            found += tasks[: min(end, count - len(found))]
            if end < len(times) or len(found) == count:
                break
        return found

    def tail(self, count: int, until: int) -> list[Item]:
        """The last tasks, up to ``count``, that have the time ``until`` or an earlier one; the last first."""
        found: list[Item] = []
        for chunk in range(self._chunks_until(until) - 1, -1, -1):
            times = self._keys[chunk]
            end = len(times) if times[-1] <= until else bisect_right(times, until)
            found += self._tasks[chunk][max(0, end - count + len(found)) : end][::-1]
            if len(found) == count:
                break
        return found

    def sample(self, count: int, until: int, random: Callable[[], float]) -> list[Item]:
        """Any tasks, up to ``count``, that have the time ``until`` or an earlier one, in any order."""
        chunks = self._chunks_until(until)
        if not chunks:
            return []
        start = int(random() * chunks)
        found: list[Item] = []
        for chunk in (*range(start, chunks), *range(start)) if count > 1 else (start,):
            times = self._keys[chunk]
            found += self._tasks[chunk][: bisect_right(times, until)]
            if len(found) >= count:
                break
        for at in range(min(count, len(found))):  # as much of a shuffle as is asked for
            other = at + int(random() * (len(found) - at))
            found[at], found[other] = found[other], found[at]
        return found[:count]

    def _chunks_until(self, time: int) -> int:
        """How many chunks begin with this time or an earlier one."""
        chunks = bisect_left(self._largest, (time + 1) << _SEQUENCE_BITS)
        return chunks + 1 if chunks < len(self._keys) and self._keys[chunks][0] <= time else chunks
