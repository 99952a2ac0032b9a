"""Answers as bytes. Members that hold their default are left out; payloads are the bytes that came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ratus.core.durations import format_duration
from ratus.core.errors import RatusError
from ratus.core.members import LIMITS, TASK, Duration, Member, Object, Stored, Type
from ratus.core.records import MAX_PAGE_BYTES, LaneInfo, ScheduleRecord, TaskRecord, TopicInfo
from ratus.core.schedules import ALLOW, LAST
from ratus.core.times import format_time
from ratus.core.turns import Closing, Limits
from ratus.core.values import NamedValue

_encode = msgspec.json.Encoder().encode


# ---- tasks ---------------------------------------------------------------------------------------
# A task is written by a struct and a function that are made from the table of members. The function's source
# has an expression for each member: as quick as one that is written by hand.

_WriteTask = Callable[[TaskRecord, Callable[[int], str]], Any]


def _struct_of(name: str, members: Sequence[Member]) -> type[msgspec.Struct]:
    """A struct with these members, in the order in which they are written."""
    fields: list[tuple[str, Any, Any]] = []
    for member in members:
        default = msgspec.NODEFAULT if member.always else member.default
        fields.append((member.name, Any, msgspec.field(default=default, name=member.wire)))
    return msgspec.defstruct(name, fields, omit_defaults=True, gc=False)


def _expression(member: Member) -> str:
    """The source of the expression for a member of ``task`` in an answer; ``written`` formats a time."""
    value = f"task.{member.name}"
    match member.type:
        case Type(stored=Stored.TIME):
            expression = f"written({value})"
        case Type(stored=Stored.JSON):
            expression = f"Raw({value})"
        case Object():
            expression = f"write_{member.name}({value})"
        case _:
            return value
    if member.always:
        return expression
    hidden = f" or task.{member.hidden_by}" if member.hidden_by else ""
    return f"None if {value} is None{hidden} else {expression}"


def _object_writer(kind: Object) -> Callable[[Any], dict[str, Any]]:
    """A function that makes the object of a record, without the members at their default."""
    writers: dict[str, Callable[[Any], Any]] = {}
    for member in kind.members:
        if isinstance(member.type, Duration):
            writers[member.name] = format_duration
        elif isinstance(member.type, Object):
            writers[member.name] = _object_writer(member.type)

    def write(record: Any) -> dict[str, Any]:
        written: dict[str, Any] = {}
        for member in kind.members:
            value = getattr(record, member.name)
            if value != member.default:
                writer = writers.get(member.name)
                written[member.wire] = value if writer is None else writer(value)
        return written

    return write


def _task_writer(members: Sequence[Member]) -> _WriteTask:
    """A function that makes the struct of a task: without the rare members if the task has none of them."""
    usual = [member for member in members if not member.rare]
    members = usual + [member for member in members if member.rare]
    names: dict[str, Any] = {
        "Usual": _struct_of("Usual", usual),
        "Whole": _struct_of("Whole", members),
        "Raw": msgspec.Raw,
    }
    for member in members:
        if isinstance(member.type, Object):
            names[f"write_{member.name}"] = _object_writer(member.type)
    values, all_values = (", ".join(map(_expression, some)) for some in (usual, members))
    source = f"lambda task, written: Usual({values}) if task.rare is None else Whole({all_values})"
    write: _WriteTask = eval(source, names)  # noqa: S307  # the table's own names
    return write


_task = _task_writer([member for member in TASK if member.shown])


# ---- other answers -------------------------------------------------------------------------------


class _Promise(msgspec.Struct, omit_defaults=True, gc=False):
    id: str = msgspec.field(name="_id")
    consumer: str = ""
    deadline: str | None = None


class _Committed(msgspec.Struct, omit_defaults=True, gc=False):
    """One item of the answer to a batch of commits."""

    id: str = msgspec.field(name="_id")
    status: int
    task: Any = None
    error: dict[str, Any] | None = None


class _Times(dict[int, str]):
    """Times as text, each written once: the tasks of a batch share most of theirs."""

    def __missing__(self, time: int) -> str:
        text = self[time] = format_time(time)
        return text


def _promise(task: TaskRecord) -> _Promise:
    deadline = None if task.deadline is None or task.implied else format_time(task.deadline)
    return _Promise(task.id, task.consumer, deadline)


def task(record: TaskRecord) -> bytes:
    return _encode(_task(record, format_time))


def tasks(records: Iterable[TaskRecord], next_page: str | None = None) -> bytes:
    written = _Times().__getitem__
    answer: dict[str, Any] = {"data": [_task(record, written) for record in records]}
    if next_page is not None:
        answer["next"] = next_page
    return _encode(answer)


def promise(record: TaskRecord) -> bytes:
    return _encode(_promise(record))


def promises(records: Iterable[TaskRecord]) -> bytes:
    return _encode({"data": [_promise(record) for record in records]})


def topics(names: Iterable[str]) -> bytes:
    return _encode({"data": [{"name": name} for name in names]})


def topic(info: TopicInfo) -> bytes:
    pending, active, completed, archived = info.counts
    answer: dict[str, Any] = {
        "name": info.name,
        "count": info.count,
        "states": {"pending": pending, "active": active, "completed": completed, "archived": archived},
        "due": info.due,
    }
    if info.oldest is not None:
        answer["oldest"] = format_time(info.oldest)
    if info.paused:
        answer["paused"] = True
    if info.limits is not None:
        answer["limits"] = _write_limits(info.limits)
    return _encode(answer | _closed(info.closed))


def lanes(infos: Iterable[LaneInfo], next_page: str | None = None) -> bytes:
    answer: dict[str, Any] = {
        "data": [
            ({} if info.value is None else {"value": info.value})
            | {"active": info.active, "pending": info.pending}
            | _closed(info.closed)
            for info in infos
        ]
    }
    if next_page is not None:
        answer["next"] = next_page
    return _encode(answer)


def _closed(closing: Closing | None) -> dict[str, Any]:
    """The members that say why a topic or a lane is closed, and until when."""
    if closing is None:
        return {}
    closed = {"closed": closing.reason.value}
    if closing.reopens is not None:
        closed["reopens"] = format_time(closing.reopens)
    return closed


_write_limits = _object_writer(Object("Limits", LIMITS, Limits))


def topics_in_detail(infos: Iterable[TopicInfo]) -> bytes:
    return b'{"data":[%b]}' % b",".join(map(topic, infos))


def updated(created: int, changed: int) -> bytes:
    return b'{"created":%d,"updated":%d}' % (created, changed)


def deleted(count: int) -> bytes:
    return b'{"deleted":%d}' % count


def _value(value: NamedValue) -> dict[str, Any]:
    record = value.record
    assert record.updated is not None, "every change of a value has a time"
    answer: dict[str, Any] = {"name": value.name}
    if record.deleted:
        answer["deleted"] = True
    else:
        answer["value"] = msgspec.Raw(b"null" if record.value is None else record.value)
    return answer | {"revision": record.revision, "updated": format_time(record.updated)}


def value(named: NamedValue) -> bytes:
    return _encode(_value(named))


def values(found: Iterable[NamedValue], next_page: str | None = None) -> bytes:
    answer: dict[str, Any] = {"data": [_value(each) for each in found]}
    if next_page is not None:
        answer["next"] = next_page
    return _encode(answer)


def _schedule(name: str, record: ScheduleRecord, last: TaskRecord | None) -> dict[str, Any]:
    answer: dict[str, Any] = {"name": name, "topic": record.topic}
    if record.task is not None:
        answer["task"] = msgspec.Raw(record.task)
    if record.cron:
        answer["cron"] = record.cron
    if record.zone:
        answer["zone"] = record.zone
    if record.every is not None:
        answer["every"] = format_duration(record.every)
    for member in ("start", "end"):
        time = getattr(record, member)
        if time is not None:
            answer[member] = format_time(time)
    for member, default in (("overlap", ALLOW), ("catch_up", LAST), ("paused", False)):
        value = getattr(record, member)
        if value != default:
            answer[member] = value
    if record.next is not None and not record.paused:
        answer["next"] = format_time(record.next)
    if record.last:
        answer["last"] = {"_id": record.last}
        if last is not None:
            answer["last"]["state"] = last.state
            if last.outcome:
                answer["last"]["outcome"] = last.outcome
    return answer


def schedule(name: str, record: ScheduleRecord, last: TaskRecord | None) -> bytes:
    return _encode(_schedule(name, record, last))


def schedules(
    found: Iterable[tuple[str, ScheduleRecord, TaskRecord | None]], next_page: str | None = None
) -> bytes:
    answer: dict[str, Any] = {"data": [_schedule(*each) for each in found]}
    if next_page is not None:
        answer["next"] = next_page
    return _encode(answer)


def preview(ticks: Iterable[int], words: str) -> bytes:
    return _encode({"ticks": [format_time(tick) for tick in ticks], "words": words})


def made(task_id: str) -> bytes:
    return _encode({"_id": task_id})


class Committed:
    """The answer to a batch of commits: each item as if it had been answered alone, in the order given.

    Once the tasks have come to `MAX_PAGE_BYTES`, later items are without theirs: a short request may commit
    the same large task thousands of times.
    """

    def __init__(self) -> None:
        self._size = 0
        self._written = _Times().__getitem__
        self._parts: list[bytes] = []

    def add(self, ids: Sequence[str], results: Sequence[TaskRecord | RatusError]) -> None:
        """Write the results of the commits of these tasks, in the same order."""
        items: list[_Committed] = []
        size, written = self._size, self._written  # looked up once, not for each of a batch
        for task_id, result in zip(ids, results, strict=True):
            if isinstance(result, RatusError):
                items.append(_Committed(task_id, result.status, error=_error(result)))
            elif size < MAX_PAGE_BYTES:
                size += result.weight()
                items.append(_Committed(task_id, 200, _task(result, written)))
            else:
                items.append(_Committed(task_id, 200))
        self._size = size
        if items:
            self._parts.append(_encode(items)[1:-1])

    def body(self) -> bytes:
        """The whole answer."""
        return b'{"data":[%b]}' % b",".join(self._parts)


def _error(problem: RatusError) -> dict[str, Any]:
    return {"code": problem.status, "message": problem.message}


def error(problem: RatusError) -> bytes:
    return _encode({"error": _error(problem)})


def health(detail: str) -> bytes:
    """The body of a readiness probe: empty when all is well."""
    return _encode({"detail": detail}) if detail else b""
