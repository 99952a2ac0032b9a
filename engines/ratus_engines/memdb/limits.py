"""The times until which a rate or a hold closes a topic or a lane, kept beside the tasks."""

from __future__ import annotations

from collections.abc import Iterator
from heapq import heappop, heappush

from msgspec import Struct

# Times that have passed and are forgotten in one step: a claim makes at most two new ones.
FORGOTTEN = 256


class Times(Struct, frozen=True, gc=False):
    """Of a topic or a lane: ``allowed`` is that of its rate (`turns.claimed`), ``held`` that of its hold."""

    allowed: int = 0
    held: int = 0


NO_TIMES = Times()

Key = tuple[str, str | None] | None
"""A label's name with one of its values (``None``: of the tasks without it); ``None``: the topic."""


class TimesOfTopic:
    """The times of one topic and of its lanes. They count whether a lane has tasks or not, until they pass.

    Those that have passed are forgotten, so that values which come and go are not kept for ever.
    """

    __slots__ = ("_ends", "_topic", "by_label")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all times."""
        self._topic: Times | None = None
        self.by_label: dict[str, dict[str | None, Times]] = {}
        # A heap of when each key was to pass, as it was when it was added: each key is in it once.
        self._ends: list[tuple[int, int, Key]] = []

    def __bool__(self) -> bool:
        return bool(self._ends)

    def of_topic(self) -> Times:
        """The times of the topic as a whole."""
        return self._topic or NO_TIMES

    def of_label(self, label: str) -> dict[str | None, Times]:
        """The times of a label's lanes by value. Not to be changed."""
        return self.by_label.get(label, {})

    def of(self, key: Key) -> Times:
        """The times under a key."""
        return self.of_topic() if key is None else self.of_label(key[0]).get(key[1], NO_TIMES)

    def put(self, key: Key, times: Times) -> None:
        """Store the times under a key."""
        if key is None:
            is_new = self._topic is None
            self._topic = times
        else:
            values = self.by_label.setdefault(key[0], {})
            is_new = key[1] not in values
            values[key[1]] = times
        if is_new:
            self._push(key, times)

    def _push(self, key: Key, times: Times) -> None:
        # The identity keeps keys from being compared, of which some are `None`.
        heappush(self._ends, (max(times.allowed, times.held), id(key), key))

    def forget(self, now: int) -> bool:
        """Forget what has passed by ``now``, of very much a part. Returns whether more has passed."""
        ends = self._ends
        for _ in range(FORGOTTEN):
            if not ends or ends[0][0] > now:
                return False
            key = heappop(ends)[2]
            times = self.of(key)
            if max(times.allowed, times.held) > now:
                self._push(key, times)
            elif key is None:
                self._topic = None
            else:
                values = self.by_label[key[0]]
                del values[key[1]]
                if not values:
                    del self.by_label[key[0]]
        return True

    def lift(self) -> None:
        """End all holds."""
        for key in list(self.keys()):
            times = self.of(key)
            if times.held:
                self.put(key, Times(times.allowed))

    def keys(self) -> Iterator[Key]:
        """Everything that has times."""
        if self._topic is not None:
            yield None
        for label, values in self.by_label.items():
            for value in values:
                yield label, value
