"""Answers as bytes. Members that hold their default are left out; payloads are the bytes that came in."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from ratus.core.durations import format_duration
from ratus.core.errors import RatusError
from ratus.core.records import MAX_PAGE_BYTES, RetryPolicy, TaskRecord, TopicInfo
from ratus.core.times import format_time

_encode = msgspec.json.Encoder().encode


class _Task(msgspec.Struct, omit_defaults=True, gc=False):
    """A task on the wire, members in the order in which they are written."""

    id: str = msgspec.field(name="_id")
    topic: str
    state: int
    nonce: str
    produced: str
    scheduled: str
    producer: str = ""
    consumer: str = ""
    consumed: str | None = None
    deadline: str | None = None
    committed: str | None = None
    expires: str | None = None
    priority: int = 0
    attempts: int = 0
    retry: dict[str, Any] | None = None
    error: str = ""
    outcome: str = ""
    payload: msgspec.Raw | None = None
    result: msgspec.Raw | None = None


class _Promise(msgspec.Struct, omit_defaults=True, gc=False):
    id: str = msgspec.field(name="_id")
    consumer: str = ""
    deadline: str | None = None


class _Committed(msgspec.Struct, omit_defaults=True, gc=False):
    """One item of the answer to a batch of commits."""

    id: str = msgspec.field(name="_id")
    status: int
    task: _Task | None = None
    error: dict[str, Any] | None = None


class _Times(dict[int, str]):
    """Times as text, each written once: the tasks of a batch share most of theirs."""

    def __missing__(self, time: int) -> str:
        text = self[time] = format_time(time)
        return text


def _task(task: TaskRecord, written: Callable[[int], str] = format_time) -> _Task:
    shown = not task.implied
    return _Task(
        task.id,
        task.topic,
        task.state,
        task.nonce,
        written(task.produced),
        written(task.scheduled),
        task.producer,
        task.consumer,
        None if task.consumed is None else written(task.consumed),
        None if task.deadline is None or not shown else written(task.deadline),
        None if task.committed is None else written(task.committed),
        None if task.expires is None else written(task.expires),
        task.priority,
        task.attempts,
        None if task.retry is None else _retry(task.retry),
        task.error,
        task.outcome,
        None if task.payload is None else msgspec.Raw(task.payload),
        None if task.result is None else msgspec.Raw(task.result),
    )


def _retry(policy: RetryPolicy) -> dict[str, Any]:
    members = msgspec.structs.asdict(policy)
    for name in ("delay", "max_delay"):
        if members[name] is not None:
            members[name] = format_duration(members[name])
    return {name: value for name, value in members.items() if value is not None}


def _promise(task: TaskRecord) -> _Promise:
    deadline = None if task.deadline is None or task.implied else format_time(task.deadline)
    return _Promise(task.id, task.consumer, deadline)


def task(record: TaskRecord) -> bytes:
    return _encode(_task(record))


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
    return _encode(answer)


def updated(created: int, changed: int) -> bytes:
    return b'{"created":%d,"updated":%d}' % (created, changed)


def deleted(count: int) -> bytes:
    return b'{"deleted":%d}' % count


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
        """Write what came of these commits."""
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
