"""What a consumer wants to claim, in one description from the request to the engine."""

from __future__ import annotations

from msgspec import Struct

from ratus.core.records import DEFAULT_TIMEOUT


class Selection(Struct, frozen=True, gc=False):
    """Up to ``limit`` due tasks of these topics, in order of preference, and how long they are claimed.

    Times are microseconds. A claim lasts until ``deadline``, or where that is ``None`` for ``timeout`` from
    the moment at which it is made: a poll that has waited for a task still gets the whole timeout.
    """

    topics: tuple[str, ...]
    deadline: int | None = None
    consumer: str = ""
    limit: int = 1
    timeout: int = DEFAULT_TIMEOUT

    def deadline_at(self, now: int) -> int:
        """When a claim that is made now lapses."""
        return now + self.timeout if self.deadline is None else self.deadline

    def among(self, topics: tuple[str, ...]) -> Selection:
        """The same selection, restricted to these topics."""
        return Selection(topics, self.deadline, self.consumer, self.limit, self.timeout)
