"""Operations of several calls, written once for synchronous and asynchronous calls.

Such an operation is a generator. It yields a `Call` or a `Pause`; it is sent the value of the call, or has
the call's error raised in it; and it returns its result. `SyncCalls` and `AsyncCalls` carry the steps out, so
that an operation does not know whether it is awaited.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable, Generator, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeAlias, TypeVar

from ratus.calls import requests
from ratus.calls.bounds import Bounds
from ratus.calls.inputs import DurationLike, LabelValue, seconds
from ratus.calls.requests import BATCH_ITEMS, Batch, Request
from ratus.calls.responses import LanePage, SchedulePage, TaskPage, ValuePage
from ratus.calls.retrying import Attempts, Backoff, Repeat
from ratus.core.errors import BadRequest, RatusError, TaskFailed
from ratus.core.models import CommitItem, CommitResult, Task, TaskState, Topic, Updated, Value

T = TypeVar("T")

SETTLED: Final = (TaskState.COMPLETED, TaskState.ARCHIVED)
"""The states in which nothing more is going to happen to a task by itself."""

WAIT_PAUSE: Final = 0.25
"""Seconds before asking again, where the server responded at once instead of waiting."""


@dataclass(frozen=True, slots=True)
class Call(Generic[T]):
    """A request to be sent, and repeated as its `attempts` allow; by default as the client's settings do."""

    request: Request[T]
    attempts: Attempts | None = None
    patience: float | None = None
    """Seconds for the response and for a connection, in place of the client's."""


@dataclass(frozen=True, slots=True)
class Pause:
    """A pause before the next step."""

    seconds: float


Step: TypeAlias = Call[Any] | Pause
Steps: TypeAlias = Generator[Step, Any, T]


def run(steps: Steps[T], carry_out: Callable[[Step], Any]) -> T:
    """Carry out every step; the result of the operation. Raises what the operation raises."""
    try:
        step = next(steps)
        while True:
            try:
                value = carry_out(step)
            except RatusError as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        result: T = end.value
        return result


async def run_async(steps: Steps[T], carry_out: Callable[[Step], Awaitable[Any]]) -> T:
    """As `run`, where carrying out a step is awaited."""
    try:
        step = next(steps)
        while True:
            try:
                value = await carry_out(step)
            except RatusError as error:
                step = steps.throw(error)
            else:
                step = steps.send(value)
    except StopIteration as end:
        result: T = end.value
        return result


def call(request: Request[T], attempts: Attempts | None = None, patience: float | None = None) -> Steps[T]:
    """One call; its value."""
    value: T = yield Call(request, attempts, patience)
    return value


def page_of_topics(
    offset: int, page_size: int, bounds: Bounds, *, details: bool
) -> Steps[tuple[list[Topic], int | None]]:
    """The topics from `offset` on, as many as the server lists at a time, and the offset of the next page.

    The offset is `None` after the last page.
    """
    while True:
        limit = min(page_size, bounds.page)
        try:
            page = yield from call(requests.list_topics(limit, offset, details=details))
        except BadRequest as error:
            bounds.refused_page(error, limit)
            continue
        return page, offset + len(page) if page and len(page) >= limit else None


def page_of_tasks(
    topic: str,
    after: str,
    page_size: int,
    bounds: Bounds,
    *,
    state: TaskState | None,
    outcome: Literal["failed", "expired"] | None,
    producer: str | None,
    consumer: str | None,
    labels: Mapping[str, LabelValue] | None,
) -> Steps[TaskPage]:
    """The tasks after a cursor, as many as the server lists at a time."""
    while True:
        limit = min(page_size, bounds.page)
        request = requests.list_tasks(
            topic,
            limit=limit,
            offset=None,
            after=after,
            state=state,
            outcome=outcome,
            producer=producer,
            consumer=consumer,
            labels=labels,
        )
        try:
            return (yield from call(request))
        except BadRequest as error:
            bounds.refused_page(error, limit)


def page_of_lanes(
    topic: str, label: str | None, after: str, page_size: int, bounds: Bounds
) -> Steps[LanePage]:
    """The lanes after a cursor, as many as the server lists at a time."""
    while True:
        limit = min(page_size, bounds.page)
        try:
            return (yield from call(requests.list_lanes(topic, label, limit=limit, after=after)))
        except BadRequest as error:
            bounds.refused_page(error, limit)


def write_tasks(
    method: Literal["POST", "PUT"], tasks: Iterable[Task], topic: str | None, batch_size: int, bounds: Bounds
) -> Steps[Updated]:
    """Insert or upsert tasks in batches. Returns how many are new and how many were replaced."""
    return (yield from _write(requests.write_tasks(method, tasks, topic, batch_size, bounds), bounds))


def insert_items(items: Iterable[bytes], bounds: Bounds) -> Steps[Updated]:
    """Insert tasks that are JSON already, each with its topic, in batches; ids that exist are ignored."""
    return (yield from _write(requests.write_items("POST", items, None, BATCH_ITEMS, bounds), bounds))


def _write(batches: Iterable[Batch[Updated]], bounds: Bounds) -> Steps[Updated]:
    created = updated = 0
    for batch in batches:
        for written in (yield from _send(batch, bounds)):
            created += written.created
            updated += written.updated
    return Updated(created=created, updated=updated)


def patch_tasks(commits: Iterable[CommitItem], batch_size: int, bounds: Bounds) -> Steps[list[CommitResult]]:
    """Commit tasks in batches; the results in order."""
    results: list[CommitResult] = []
    for batch in requests.patch_tasks(commits, batch_size, bounds):
        for some in (yield from _send(batch, bounds)):
            results += some
    return results


def _send(batch: Batch[T], bounds: Bounds) -> Steps[list[T]]:
    """Send a batch, in parts where the server takes less at a time; the values in order."""
    values: list[T] = []
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        try:
            values.append((yield from call(part.request())))
        except RatusError as error:
            bounds.refused_batch(error, len(part), part.size)
            waiting += reversed(part.halves())
    return values


def wait_for_task(task_id: str, wait: DurationLike | None, bounds: Bounds, *, check: bool) -> Steps[Task]:
    """Ask for a task until it is settled or the wait ends; see `Client.wait_for_task`."""
    until = None if wait is None else time.monotonic() + seconds(wait, "wait")
    while True:
        begun = time.monotonic()
        left = bounds.wait if until is None else min(bounds.wait, max(until - begun, 0.0))
        try:
            task = yield from call(requests.get_task(task_id, left))
        except BadRequest as error:
            bounds.refused_wait(error, left)
            continue
        now = time.monotonic()
        if task.state in SETTLED or (until is not None and now >= until):
            return _completed(task) if check else task
        if not left or now - begun < left / 2:
            yield Pause(WAIT_PAUSE)


def _completed(task: Task) -> Task:
    """The task, if it is completed. Raises `TaskFailed` if it is archived, `TimeoutError` otherwise."""
    if task.state is TaskState.COMPLETED:
        return task
    name = f"task {task.id!r} in {task.topic!r}"
    if task.state is not TaskState.ARCHIVED:
        raise TimeoutError(f"{name} is not completed yet: it is {task.state.name.lower()}")
    reason = task.error.partition("\n")[0] or task.outcome or "it was archived"
    raise TaskFailed(f"{name}: {reason}", task)


def page_of_values(prefix: str, after: str, page_size: int, bounds: Bounds) -> Steps[ValuePage]:
    """The values of a prefix after a cursor, as many as the server lists at a time."""
    while True:
        limit = min(page_size, bounds.page)
        try:
            page = yield from call(requests.list_values(prefix, limit, after or None))
        except BadRequest as error:
            bounds.refused_page(error, limit)
            continue
        return page


def page_of_schedules(after: str, page_size: int, bounds: Bounds) -> Steps[SchedulePage]:
    """The schedules after a cursor, as many as the server lists at a time."""
    while True:
        limit = min(page_size, bounds.page)
        try:
            page = yield from call(requests.list_schedules(limit, after or None))
        except BadRequest as error:
            bounds.refused_page(error, limit)
            continue
        return page


class WatchedValues:
    """The values that a program watches, and what it has seen of them.

    `names` is one name or several, up to 100; `prefix` stands for all that begin so. `since` is the revision
    beyond which they are wanted. Raises `ValueError` unless there is one of the two.
    """

    def __init__(self, names: str | Iterable[str] | None, prefix: str | None, since: int) -> None:
        if (names is None) == (prefix is None):
            raise ValueError("name the values to watch, or give a prefix of their names")
        self.prefix = prefix
        given = () if names is None else (names,) if isinstance(names, str) else tuple(names)
        if prefix is None and not (given and all(given)):
            raise ValueError("names: name one value or more, none of them empty")
        self.since: dict[str, int] | int = since if prefix is not None else dict.fromkeys(given, since)

    def seen(self, value: Value) -> None:
        """Ask from now on for what comes after this change."""
        if isinstance(self.since, dict):
            self.since[value.name] = value.revision
        else:
            self.since = value.revision


def changed_values(watched: WatchedValues, bounds: Bounds) -> Steps[list[Value]]:
    """Wait until watched values have changed, for as long as that takes; those that have."""
    # A server that is away or restarts is asked until it is back: nothing is missed meanwhile.
    attempts = Attempts(Repeat.ALWAYS, sys.maxsize, Backoff())
    while True:
        begun, wait = time.monotonic(), bounds.wait
        try:
            found = yield from call(requests.wait_for_values(watched.since, watched.prefix, wait), attempts)
        except BadRequest as error:
            bounds.refused_wait(error, wait)
            continue
        if found:
            return found
        if not wait or time.monotonic() - begun < wait / 2:
            yield Pause(WAIT_PAUSE)
