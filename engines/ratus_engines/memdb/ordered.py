"""A map from integers to values that keeps its keys sorted.

Keys lie in chunks of up to `CHUNK` entries, beside them the values; a list of each chunk's largest key
finds the chunk. Adding, removing and finding are two binary searches in C and a short memory move, so the
cost grows only with the logarithm of the size; adding at the end, the usual case, is an append. Nothing is
removed lazily: no operation ever pays for a clean-up.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

# Large enough that a million keys have few chunks, small enough that moving half a chunk is cheap.
CHUNK = 256


class SortedMap(Generic[V]):
    """See the module's text. Keys are unique; adding one that is there is a defect of the caller."""

    __slots__ = ("_keys", "_largest", "_size", "_values")

    def __init__(self) -> None:
        self._largest: list[int] = []
        self._keys: list[list[int]] = []
        self._values: list[list[V]] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def add(self, key: int, value: V) -> None:
        """Put a value under a key that is not there yet."""
        self._size += 1
        largest = self._largest
        if not largest or key > largest[-1]:  # the usual case
            if largest and len(keys := self._keys[-1]) < CHUNK:
                keys.append(key)
                self._values[-1].append(value)
                largest[-1] = key
            else:
                self._keys.append([key])
                self._values.append([value])
                largest.append(key)
            return
        chunk = bisect_left(largest, key)
        keys = self._keys[chunk]
        at = bisect_left(keys, key)
        keys.insert(at, key)
        values = self._values[chunk]
        values.insert(at, value)
        if len(keys) > CHUNK:
            half = len(keys) // 2
            self._keys.insert(chunk + 1, keys[half:])
            self._values.insert(chunk + 1, values[half:])
            del keys[half:]
            del values[half:]
            largest.insert(chunk, keys[-1])

    def remove(self, key: int) -> V:
        """Take the value under a key out. Raises `KeyError` when there is none."""
        chunk = bisect_left(self._largest, key)
        if chunk == len(self._largest):
            raise KeyError(key)
        keys = self._keys[chunk]
        at = 0 if keys[0] == key else bisect_left(keys, key)  # what is first is what usually goes
        if keys[at] != key:
            raise KeyError(key)
        self._size -= 1
        del keys[at]
        value = self._values[chunk].pop(at)
        if not keys:
            del self._keys[chunk]
            del self._values[chunk]
            del self._largest[chunk]
        elif at == len(keys):
            self._largest[chunk] = keys[-1]
        return value

    def replace(self, key: int, value: V) -> None:
        """Put another value under a key that is there. Raises `KeyError` when it is not."""
        chunk = bisect_left(self._largest, key)
        if chunk == len(self._largest):
            raise KeyError(key)
        at = bisect_left(self._keys[chunk], key)
        if self._keys[chunk][at] != key:
            raise KeyError(key)
        self._values[chunk][at] = value

    def first(self) -> V | None:
        """The value under the smallest key, or ``None``."""
        return self._values[0][0] if self._size else None

    def rank(self, key: int) -> int:
        """How many keys are smaller than this one."""
        chunk = bisect_left(self._largest, key)
        before = sum(map(len, self._keys[:chunk]))
        return before if chunk == len(self._keys) else before + bisect_left(self._keys[chunk], key)

    def after(self, key: int | None, count: int) -> list[V]:
        """Up to ``count`` values under the keys that follow this one, in order; ``None``: from the start.

        A copy: whoever walks a large map asks for slice after slice, and changes in between do no harm.
        """
        if not self._size:
            return []
        if key is None:
            chunk = at = 0
        else:
            chunk = bisect_right(self._largest, key)
            if chunk == len(self._largest):
                return []
            at = bisect_right(self._keys[chunk], key)
        found = self._values[chunk][at : at + count]
        while len(found) < count and (chunk := chunk + 1) < len(self._values):
            found += self._values[chunk][: count - len(found)]
        return found

    def __iter__(self) -> Iterator[V]:
        """All values in order. Not to be changed meanwhile; see `after`."""
        for values in self._values:
            yield from values
