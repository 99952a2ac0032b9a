"""What engines store and what callers hand them: compact records, not wire models.

Times are integers of microseconds since 1970-01-01 UTC, payloads and results are JSON text as bytes. The
records are msgspec structs that the garbage collector does not track, since its pauses would otherwise grow
with the number of tasks in memory. A reference cycle through a record would never be freed, so no record may
be part of one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Generic, TypeVar, overload

import msgspec
from msgspec import Struct, structs

from ratus.core.labels import Pair, has_all
from ratus.core.turns import Closing, Limits

# A page of a list and the answer to a claim end early at this size, and the answer to a batch of commits
# leaves out the tasks from there on, so that one answer cannot fill the memory.
MAX_PAGE_BYTES = 16 * 1024 * 1024

# Microseconds: a claim that names neither a timeout nor a deadline lapses after ten minutes.
DEFAULT_TIMEOUT = 600 * 1_000_000


# The states of a task as plain integers: comparing a member of `ratus.core.models.TaskState` costs five times
# as much.
PENDING, ACTIVE, COMPLETED, ARCHIVED = 0, 1, 2, 3

FAILED = "failed"
EXPIRED = "expired"


class RetryPolicy(Struct, frozen=True, gc=False):
    """How often and how soon a failed task is tried again. ``None``: the server's default.

    ``delay`` and ``max_delay`` are microseconds; ``backoff`` is ``constant``, ``linear`` or ``exponential``.
    """

    max_attempts: int | None = None
    backoff: str | None = None
    delay: int | None = None
    max_delay: int | None = None
    jitter: float | None = None


# Estimates of the bytes that a task takes in an answer beside its texts, payload and result: for the names of
# members, times and numbers; for a retry policy; for the name of a rare member.
_FIXED_BYTES = 400
_RETRY_BYTES = 150
_MEMBER_BYTES = 50
# Characters: where the texts of a task are longer than this together, their bytes are counted exactly.
_LONG_TEXTS = 1000

_encode = msgspec.json.Encoder().encode


def written_bytes(text: str) -> int:
    """The number of bytes that a text takes as a JSON string, in which a character takes up to six."""
    return len(_encode(text))


class Rare(Struct, frozen=True, gc=False, omit_defaults=True):
    """Members that few tasks have; ``None`` where a task does not have one.

    They are read and set as attributes of the task (`RareMember`), like any other member. They are kept apart
    so that a task without any of them pays for one pointer, however many such members there are.
    """

    trace: bytes | None = None
    labels: bytes | None = None

    def weight(self) -> int:
        """About how many bytes the members take in an answer."""
        return sum(_MEMBER_BYTES + len(value) for value in structs.astuple(self) if value is not None)


Value = TypeVar("Value")


class RareMember(Generic[Value]):
    """A member of a task's `Rare`, as an attribute of the task. ``None``: the task does not have it."""

    def __set_name__(self, owner: type[TaskRecord], name: str) -> None:
        self._name = name

    @overload
    def __get__(self, task: None, owner: type[TaskRecord]) -> RareMember[Value]: ...
    @overload
    def __get__(self, task: TaskRecord, owner: type[TaskRecord]) -> Value | None: ...

    def __get__(self, task: TaskRecord | None, owner: type[TaskRecord]) -> RareMember[Value] | Value | None:
        if task is None:
            return self
        value: Value | None = None if task.rare is None else getattr(task.rare, self._name)
        return value

    def __set__(self, task: TaskRecord, value: Value | None) -> None:
        # A new `Rare` each time: copies of the task share the old one.
        changed: dict[str, Any] = {self._name: value}
        rare = structs.replace(_NO_RARE if task.rare is None else task.rare, **changed)
        task.rare = None if rare == _NO_RARE else rare


_NO_RARE = Rare()


class TaskRecord(Struct, gc=False):
    """A task as an engine keeps it. Members mean what they mean on the wire; see docs/api.md."""

    id: str
    topic: str
    produced: int
    scheduled: int
    state: int = PENDING
    nonce: str = ""
    producer: str = ""
    consumer: str = ""
    consumed: int | None = None
    deadline: int | None = None
    committed: int | None = None
    payload: bytes | None = None
    priority: int = 0
    attempts: int = 0
    retry: RetryPolicy | None = None
    error: str = ""
    result: bytes | None = None
    outcome: str = ""
    expires: int | None = None
    rare: Rare | None = None
    # The deadline was set by the server because a client made the task active without one. The claim lapses
    # like any other, but the deadline is not shown, since the client never gave it.
    implied: bool = False
    # Place in the order of creation; given by the engine, kept until the task is deleted.
    sequence: int = 0

    trace = RareMember[bytes]()
    labels = RareMember[bytes]()

    def weight(self) -> int:
        """About how many bytes the task takes in an answer; rarely an underestimate."""
        # Written out, since a loop is slower and this runs for each task of a list or a batch: 0.2 us.
        size = (
            len(self.id)
            + len(self.topic)
            + len(self.nonce)
            + len(self.producer)
            + len(self.consumer)
            + len(self.error)
        )
        if size > _LONG_TEXTS:  # in JSON, a character takes up to six bytes
            texts = (self.id, self.topic, self.nonce, self.producer, self.consumer, self.error)
            size = sum(map(written_bytes, texts))
        size += _FIXED_BYTES if self.retry is None else _FIXED_BYTES + _RETRY_BYTES
        if self.payload is not None:
            size += len(self.payload)
        if self.result is not None:
            size += len(self.result)
        if self.rare is not None:
            size += self.rare.weight()
        return size


class CommitRecord(Struct, gc=False):
    """A commit to one task, with times relative to now made absolute (``defer`` is in ``scheduled``).

    ``None`` leaves a member as it is. An empty nonce forces the commit, whatever the task's nonce and state.
    ``hold``: for so many microseconds from now, nothing more of the task's lane is handed out.
    """

    id: str
    nonce: str = ""
    topic: str = ""
    state: int | None = None
    scheduled: int | None = None
    payload: bytes | None = None
    error: str | None = None
    result: bytes | None = None
    hold: int | None = None


class TaskQuery(Struct, frozen=True, gc=False):
    """Which tasks of a topic to list. A filter that is ``None`` lets everything through.

    ``limit`` is the number of tasks at most; ``offset`` tasks are skipped first; ``after`` is the
    `TaskPage.next` of an earlier page.
    """

    topic: str
    limit: int
    offset: int = 0
    after: str | None = None
    state: int | None = None
    outcome: str | None = None
    producer: str | None = None
    consumer: str | None = None
    labels: tuple[Pair, ...] = ()

    def matches(self, task: TaskRecord) -> bool:
        """Whether a task passes the filters (state, outcome, producer, consumer, labels)."""
        return (
            (self.state is None or task.state == self.state)
            and (self.outcome is None or task.outcome == self.outcome)
            and (self.producer is None or task.producer == self.producer)
            and (self.consumer is None or task.consumer == self.consumer)
            and (not self.labels or has_all(task.labels, self.labels))
        )


class TaskPage(Struct, frozen=True, gc=False):
    """One page of a list. ``next`` is the position to continue from, ``None`` at the end."""

    tasks: Sequence[TaskRecord]
    next: str | None = None


class TopicSettings(Struct, frozen=True, gc=False):
    """The settings of a topic: a record of the kind `ratus.core.kinds.TOPIC_SETTINGS`."""

    paused: bool = False
    limits: Limits | None = None


class LaneInfo(Struct, frozen=True, gc=False):
    """A lane: the tasks of a topic with this (first) value of a label, ``None``: without the label."""

    value: str | None
    active: int = 0
    pending: int = 0
    closed: Closing | None = None


class ValueRecord(Struct, frozen=True, gc=False):
    """A value that clients share: a record of the kind `ratus.core.kinds.VALUES`, under the value's name.

    ``value`` is JSON text, ``None`` for null. ``revision`` grows with every change of any value. ``deleted``:
    the value was deleted at ``updated``, and is kept so that those who wait for changes get to know it.
    """

    value: bytes | None = None
    revision: int = 0
    updated: int | None = None
    deleted: bool = False


class ValueWrite(Struct, frozen=True, gc=False):
    """The last change of any value: the record of the kind `ratus.core.kinds.VALUE_WRITES`."""

    name: str = ""
    value: bytes | None = None
    revision: int = 0
    updated: int | None = None
    deleted: bool = False


class ScheduleRecord(Struct, frozen=True, gc=False):
    """A schedule: a record of the kind `ratus.core.kinds.SCHEDULES`, under the schedule's name.

    ``task`` is the JSON text of what each task has; ``every`` and the times are microseconds. ``next`` is the
    next tick, ``None`` when none comes any more. ``making`` has the ticks whose tasks are not stored yet, as
    `ratus.core.schedules.ticks_to_text` writes them, ``last`` the id of the last task,
    and ``decided`` the last tick that was made or left out.
    """

    topic: str = ""
    task: bytes | None = None
    cron: str = ""
    zone: str = ""
    every: int | None = None
    start: int | None = None
    end: int | None = None
    overlap: str = "allow"
    catch_up: str = "last"
    paused: bool = False
    next: int | None = None
    last: str = ""
    making: bytes | None = None
    decided: int | None = None


class ScheduleEdit(Struct, frozen=True, gc=False):
    """The last edit of any schedule: the record of the kind `ratus.core.kinds.SCHEDULE_EDITS`."""

    number: int = 0
    name: str = ""


Members = TypeVar("Members", bound=Struct)


class Record(Struct, Generic[Members], frozen=True, gc=False):
    """A record of some kind (`ratus.core.kinds`): its id, its version and its members.

    Each put gives the record a new version. No version is used twice for one id, even after a deletion.
    """

    id: str
    version: int
    members: Members


class TopicInfo(Struct, frozen=True, gc=False):
    """What is known of a topic: tasks by state (0 to 3), tasks due, and the earliest due ``scheduled``.

    ``closed``: why it hands out nothing as a whole. ``lanes``: how many lanes the engine keeps of it, of all
    labels together.
    """

    name: str
    counts: tuple[int, int, int, int] = (0, 0, 0, 0)
    due: int = 0
    oldest: int | None = None
    paused: bool = False
    limits: Limits | None = None
    closed: Closing | None = None
    lanes: int = 0

    @property
    def count(self) -> int:
        """The number of tasks in any state."""
        return sum(self.counts)
