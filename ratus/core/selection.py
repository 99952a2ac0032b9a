"""What a consumer wants to claim, in one description from the request to the engine."""

from __future__ import annotations

from msgspec import Struct

from ratus.core.labels import has_any
from ratus.core.records import DEFAULT_TIMEOUT, TaskRecord

ORDERS = ("due", "newest", "random")
"""The orders of a claim within a priority: earliest ``scheduled`` first, latest first, any due task."""

MAX_WHERE_VALUES = 16
"""The most values of a label that a claim may ask for: each is looked for in the topic's lanes."""

MAX_PREFERRED = 3
"""The most labels whose values take turns in one claim: each more costs a look at some hundred tasks."""


class Where(Struct, frozen=True, gc=False):
    """Only tasks that have one of these values of a label."""

    label: str
    values: tuple[str, ...]

    def matches(self, task: TaskRecord) -> bool:
        """Whether a task may be claimed by this."""
        return has_any(task.labels, self.label, self.values)


class Selection(Struct, frozen=True, gc=False):
    """Up to ``limit`` due tasks of these topics, in order of preference, and how long they are claimed.

    Times are microseconds. A claim lasts until ``deadline``, or where that is ``None`` for ``timeout`` from
    the moment at which it is made: a poll that has waited for a task still gets the whole timeout.

    ``order`` is one of `ORDERS`. ``where`` narrows the tasks; ``prefer`` are the labels whose values take
    turns (`ratus.core.turns`). Both together only where ``prefer`` is the one label of ``where``.
    """

    topics: tuple[str, ...]
    deadline: int | None = None
    consumer: str = ""
    limit: int = 1
    timeout: int = DEFAULT_TIMEOUT
    order: str = "due"
    where: Where | None = None
    prefer: tuple[str, ...] = ()

    def deadline_at(self, now: int) -> int:
        """When a claim that is made now lapses."""
        return now + self.timeout if self.deadline is None else self.deadline

    def among(self, topics: tuple[str, ...]) -> Selection:
        """The same selection, restricted to these topics."""
        return Selection(
            topics,
            self.deadline,
            self.consumer,
            self.limit,
            self.timeout,
            self.order,
            self.where,
            self.prefer,
        )
