"""Every call as a request: what is sent, how its answer is read, whether it may be repeated.

Both clients send these and nothing else, so that they cannot differ in what they ask.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, Literal, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from ratus.calls import responses
from ratus.calls.bounds import Bounds
from ratus.calls.claims import Claimed, CommitStatus
from ratus.calls.inputs import (
    DurationLike,
    LabelValue,
    TimeLike,
    Topics,
    checked,
    duration_text,
    hold_text,
    json_bytes,
    label_filters,
    seconds,
    several,
    time_text,
)
from ratus.calls.inputs import topic_names as names_of
from ratus.calls.responses import LanePage, SchedulePage, TaskPage, ValuePage
from ratus.calls.retrying import Repeat
from ratus.core.members import SCHEDULE, wire_names
from ratus.core.models import (
    Commit,
    CommitItem,
    CommitResult,
    Limits,
    Preview,
    Promise,
    Schedule,
    Task,
    TaskState,
    Topic,
    Updated,
    Value,
)
from ratus.core.models.json_values import to_json

T = TypeVar("T")

BATCH_ITEMS: Final = 1_000
"""Tasks or commits in one request at most: enough to make the request's own cost vanish."""


_WRITES: Final = {"POST": Repeat.ALWAYS, "PUT": Repeat.UNSENT}
"""How writes may be repeated. To insert a task again changes nothing; to replace it again would undo what
happened to it after the first attempt."""


@dataclass(frozen=True, slots=True)
class Request(Generic[T]):
    """One request and how to read its answer."""

    method: str
    target: str
    read: Callable[[bytes], T]
    body: bytes = b""
    repeat: Repeat = Repeat.ALWAYS
    wait: float = 0.0
    """Seconds that the server was asked to wait, on top of the usual time for a response."""

    absent: Callable[[], T] | None = None
    """Makes the value of a 404; where it is `None`, a 404 is an error."""


def _path(*segments: str) -> str:
    return "/v1/" + "/".join(_segment(segment) for segment in segments)


def _segment(name: str) -> str:
    if not isinstance(name, str):
        raise TypeError(f"give an id or a topic as text, not as {type(name).__name__}")
    try:
        # Proxies would take a segment of one or two dots for a step within the path.
        return name.replace(".", "%2E") if name in (".", "..") else quote(name, safe="")
    except UnicodeEncodeError:
        raise ValueError("an id or topic holds a lone surrogate, which UTF-8 cannot write") from None


def _task_path(task_id: str, topic: str = "") -> str:
    if not task_id:
        raise ValueError("a task is addressed by its id, and this one is empty")
    return _path("topics", topic, "tasks", task_id)


def _promise_path(task_id: str) -> str:
    if not task_id:
        raise ValueError("a claim is addressed by the id of its task, and this one is empty")
    return _path("topics", "", "promises", task_id)


def _named_topic(topic: str) -> str:
    if not topic:
        raise ValueError("the name of a topic must not be empty")
    return topic


def _delete(path: str) -> Request[int]:
    # A repetition would delete what was made, or release what was claimed, after the first attempt.
    return Request("DELETE", path, responses.read_deleted, repeat=Repeat.UNSENT)


def _with_query(path: str, parameters: dict[str, Any], more: Sequence[tuple[str, str]] = ()) -> str:
    given = [(name, value) for name, value in parameters.items() if value is not None]
    given += more
    return f"{path}?{urlencode(given)}" if given else path


# ---- topics ---------------------------------------------------------------------------------------


def list_topics(limit: int | None, offset: int | None, *, details: bool) -> Request[list[Topic]]:
    parameters = {"limit": limit, "offset": offset, "details": "true" if details else None}
    return Request("GET", _with_query(_path("topics"), parameters), responses.read_topics)


def delete_topics() -> Request[int]:
    return _delete(_path("topics"))


def get_topic(topic: str) -> Request[Topic]:
    return Request("GET", _path("topics", _named_topic(topic)), responses.topic_reader(topic))


def patch_topic(
    topic: str, *, paused: bool | None = None, limits: Limits | None = None, lift_holds: bool = False
) -> Request[Topic]:
    members: dict[str, Any] = {} if paused is None else {"paused": paused}
    if limits is not None:
        members["limits"] = checked(limits, Limits).to_wire()
    if lift_holds:
        members["hold"] = None
    path = _path("topics", _named_topic(topic))
    read = responses.topic_reader(topic)
    return Request("PATCH", path, read, body=json_bytes(members), repeat=Repeat.UNSENT)


def list_lanes(topic: str, label: str | None, *, limit: int | None, after: str | None) -> Request[LanePage]:
    parameters = {"label": label, "limit": limit, "after": after}
    path = _with_query(_path("topics", _named_topic(topic), "lanes"), parameters)
    return Request("GET", path, responses.read_lanes)


def delete_topic(topic: str) -> Request[int]:
    return _delete(_path("topics", _named_topic(topic)))


# ---- tasks ----------------------------------------------------------------------------------------


def list_tasks(
    topic: str,
    *,
    limit: int | None,
    offset: int | None,
    after: str | None,
    state: TaskState | None,
    outcome: Literal["failed", "expired"] | None,
    producer: str | None,
    consumer: str | None,
    labels: Mapping[str, LabelValue] | None,
) -> Request[TaskPage]:
    parameters = {
        "limit": limit,
        "offset": offset,
        "after": after,
        "state": None if state is None else _state(state),
        "outcome": outcome,
        "producer": producer,
        "consumer": consumer,
    }
    path = _with_query(_path("topics", _named_topic(topic), "tasks"), parameters, label_filters(labels))
    return Request("GET", path, responses.read_tasks)


def _state(state: TaskState) -> int:
    try:
        return int(TaskState(state))
    except ValueError:
        known = ", ".join(f"TaskState.{each.name}" for each in TaskState)
        raise ValueError(f"state: {state!r} is none of {known}") from None


@dataclass(frozen=True, slots=True)
class Batch(Generic[T]):
    """The items of one request, as JSON; `halves` divides them where the server takes fewer."""

    items: Sequence[bytes]
    to_request: Callable[[bytes], Request[T]]

    def __len__(self) -> int:
        return len(self.items)

    @property
    def size(self) -> int:
        """Bytes of all items."""
        return sum(map(len, self.items))

    def request(self) -> Request[T]:
        """The request that sends the items."""
        return self.to_request(b'{"data":[%b]}' % b",".join(self.items))

    def halves(self) -> tuple[Batch[T], Batch[T]]:
        """The first items and the others, for two requests."""
        middle = len(self.items) // 2
        return Batch(self.items[:middle], self.to_request), Batch(self.items[middle:], self.to_request)


def write_tasks(
    method: Literal["POST", "PUT"],
    tasks: Iterable[Task],
    topic: str | None,
    batch_size: int,
    bounds: Bounds,
) -> Iterator[Batch[Updated]]:
    """Batches that insert (`POST`) or replace (`PUT`) tasks, each within `batch_size` tasks and `bounds`."""
    given = (json_bytes(checked(task, Task).to_wire()) for task in several(tasks, Task))
    return write_items(method, given, topic, batch_size, bounds)


def write_items(
    method: Literal["POST", "PUT"],
    items: Iterable[bytes],
    topic: str | None,
    batch_size: int,
    bounds: Bounds,
) -> Iterator[Batch[Updated]]:
    """As `write_tasks`, of tasks that are JSON already."""
    path = _path("topics", topic or "", "tasks")

    def to_request(body: bytes) -> Request[Updated]:
        return Request(method, path, responses.read_updated, body=body, repeat=_WRITES[method])

    for some in _batches(items, batch_size, bounds):
        yield Batch(some, to_request)


def patch_tasks(
    commits: Iterable[CommitItem], batch_size: int, bounds: Bounds
) -> Iterator[Batch[list[CommitResult]]]:
    """Batches that commit many tasks. A batch may be repeated only if each of its commits has a nonce."""
    for fenced, run in _runs(checked(item, CommitItem) for item in several(commits, CommitItem)):
        to_request = _fenced_commits if fenced else _forced_commits
        for items in _batches((json_bytes(item.to_wire()) for item in run), batch_size, bounds):
            yield Batch(items, to_request)


def _fenced_commits(body: bytes) -> Request[list[CommitResult]]:
    return Request("PATCH", _path("topics", "", "tasks"), responses.read_commit_results, body=body)


def _forced_commits(body: bytes) -> Request[list[CommitResult]]:
    path = _path("topics", "", "tasks")
    return Request("PATCH", path, responses.read_commit_results, body=body, repeat=Repeat.UNSENT)


def _runs(commits: Iterable[CommitItem]) -> Iterator[tuple[bool, list[CommitItem]]]:
    """The commits in their order, in runs that all have a nonce (true) or all have none (false)."""
    run: list[CommitItem] = []
    for commit in commits:
        if run and bool(run[0].nonce) != bool(commit.nonce):
            yield bool(run[0].nonce), run
            run = []
        run.append(commit)
    if run:
        yield bool(run[0].nonce), run


def commit_statuses(items: Sequence[msgspec.Raw]) -> Request[list[CommitStatus]]:
    """A batch of commits that each carry their nonce; only their statuses are read from the response."""
    body = msgspec.json.encode({"data": items})
    return Request("PATCH", _path("topics", "", "tasks"), responses.read_statuses, body=body)


def _batches(items: Iterable[bytes], batch_size: int, bounds: Bounds) -> Iterator[list[bytes]]:
    if batch_size < 1:
        raise ValueError(f"batch_size: at least one item goes into a request, not {batch_size}")
    batch: list[bytes] = []
    size = 0
    for item in items:
        if batch and (
            len(batch) >= min(batch_size, bounds.batch_items) or size + len(item) > bounds.batch_bytes
        ):
            yield batch
            batch, size = [], 0
        batch.append(item)
        size += len(item) + 1
    if batch:
        yield batch


def delete_tasks(topic: str) -> Request[int]:
    return _delete(_path("topics", _named_topic(topic), "tasks"))


def get_task(task_id: str, wait: DurationLike | None) -> Request[Task]:
    text = None if wait is None else duration_text(wait, "wait")
    path = _with_query(_task_path(task_id), {"wait": text})
    read = responses.task_reader(task_id)
    return Request("GET", path, read, wait=0.0 if wait is None else seconds(wait, "wait"))


def write_task(method: Literal["POST", "PUT"], task: Task) -> Request[Updated]:
    path = _task_path(checked(task, Task).id, task.topic)
    body = json_bytes(task.to_wire())
    return Request(method, path, responses.read_updated, body=body, repeat=_WRITES[method])


def patch_task(task_id: str, commit: Commit | None) -> Request[Task]:
    if commit is None:
        return commit_raw(task_id, b"", fenced=False)
    members = checked(commit, Commit).to_wire()
    return commit_raw(task_id, json_bytes(members), fenced=bool(commit.nonce))


def commit_raw(task_id: str, body: bytes, *, fenced: bool) -> Request[Task]:
    """A commit whose `body` is JSON already. `fenced`: whether it carries a nonce."""
    repeat = Repeat.ALWAYS if fenced else Repeat.UNSENT
    return Request("PATCH", _task_path(task_id), responses.task_reader(task_id), body=body, repeat=repeat)


def delete_task(task_id: str) -> Request[int]:
    return _delete(_task_path(task_id))


# ---- promises -------------------------------------------------------------------------------------


def list_promises(topic: str, limit: int | None, offset: int | None) -> Request[list[Promise]]:
    path = _path("topics", _named_topic(topic), "promises")
    return Request("GET", _with_query(path, {"limit": limit, "offset": offset}), responses.read_promises)


def delete_promises(topic: str) -> Request[int]:
    return _delete(_path("topics", _named_topic(topic), "promises"))


def get_promise(task_id: str) -> Request[Promise]:
    return Request("GET", _promise_path(task_id), responses.promise_reader(task_id))


def _claim_members(consumer: str, timeout: DurationLike | None, deadline: TimeLike | None) -> dict[str, Any]:
    members: dict[str, Any] = {}
    if consumer:
        members["consumer"] = consumer
    if deadline is not None:
        members["deadline"] = time_text(deadline, "deadline")
    elif timeout is not None:
        members["timeout"] = duration_text(timeout, "timeout")
    return members


def claim_task(
    method: Literal["POST", "PUT"],
    task_id: str,
    consumer: str,
    timeout: DurationLike | None,
    deadline: TimeLike | None,
) -> Request[Claimed]:
    return Request(
        method,
        _promise_path(task_id),
        responses.claimed_reader(task_id),
        body=json_bytes(_claim_members(consumer, timeout, deadline)),
        repeat=Repeat.CLAIM if method == "POST" else Repeat.UNSENT,
    )


def poll(
    topics: Topics,
    *,
    limit: int,
    consumer: str,
    timeout: DurationLike | None,
    deadline: TimeLike | None,
    wait: DurationLike | None,
    choice: Mapping[str, Any],
    repeat: Repeat = Repeat.CLAIM,
) -> Request[list[Claimed]]:
    """A claim on up to `limit` tasks that are due; an empty list when there was none.

    `choice`: what `choice_members` has made of `order`, `where` and `prefer`.
    """
    if limit < 1:
        raise ValueError(f"limit: at least one task can be asked for, not {limit}")
    names = names_of(topics)
    members = _claim_members(consumer, timeout, deadline) | {"limit": limit}
    members |= choice
    if wait is not None:
        members["wait"] = duration_text(wait, "wait")
    if len(names) > 1:
        members["topics"] = list(names)
        path = _path("promises")
    else:
        path = _path("topics", names[0], "promises")
    return Request(
        "POST",
        path,
        responses.read_claimed_list,
        body=json_bytes(members),
        repeat=repeat,
        wait=0.0 if wait is None else seconds(wait, "wait"),
        absent=list,
    )


def extend_promise(
    task_id: str, nonce: str, timeout: DurationLike | None, deadline: TimeLike | None
) -> Request[Promise]:
    members = _claim_members("", timeout, deadline)
    if nonce:
        members["nonce"] = nonce
    return Request(
        "PATCH",
        _promise_path(task_id),
        responses.promise_reader(task_id),
        body=json_bytes(members),
        repeat=Repeat.ALWAYS if nonce else Repeat.UNSENT,
    )


def delete_promise(task_id: str, nonce: str, hold: DurationLike | None) -> Request[int]:
    if hold is not None and not nonce:
        raise ValueError("hold: give the nonce of the claim as well; without it nothing can be held")
    text = None if hold is None else hold_text(hold)
    return _delete(_with_query(_promise_path(task_id), {"nonce": nonce or None, "hold": text}))


# ---- values ---------------------------------------------------------------------------------------


def _value_path(name: str) -> str:
    if not name:
        raise ValueError("the name of a value must not be empty")
    return _path("values", name)


def list_values(prefix: str, limit: int | None, after: str | None) -> Request[ValuePage]:
    parameters = {"prefix": prefix or None, "limit": limit, "after": after}
    return Request("GET", _with_query(_path("values"), parameters), responses.read_values)


def get_value(name: str) -> Request[Value]:
    return Request("GET", _value_path(name), responses.value_reader(name))


def set_value(name: str, value: Any, if_revision: int | None) -> Request[Value]:
    members = {"value": to_json(value)}
    if if_revision is not None:
        members["revision"] = if_revision
    path = _value_path(name)
    return Request("PUT", path, responses.value_reader(name), body=json_bytes(members), repeat=Repeat.UNSENT)


def delete_value(name: str, if_revision: int | None) -> Request[int]:
    return _delete(_with_query(_value_path(name), {"revision": if_revision}))


def wait_for_values(
    since: Mapping[str, int] | int, prefix: str | None, wait: DurationLike | None
) -> Request[list[Value]]:
    """The values beyond their revisions; those of a prefix, where one is given, beyond one for all."""
    members: dict[str, Any] = {"since": since}
    if prefix is not None:
        members["prefix"] = prefix
    if wait is not None:
        members["wait"] = duration_text(wait, "wait")
    return Request(
        "POST",
        _path("values", "changes"),
        responses.read_values,
        body=json_bytes(members),
        wait=0.0 if wait is None else seconds(wait, "wait"),
    )


# ---- schedules ------------------------------------------------------------------------------------


_DEFINED: Final = wire_names(SCHEDULE)


def _schedule_path(name: str, *more: str) -> str:
    if not name:
        raise ValueError("the name of a schedule must not be empty")
    return _path("schedules", name, *more)


def _definition(schedule: Schedule) -> bytes:
    members = checked(schedule, Schedule).to_wire()
    return json_bytes({name: members[name] for name in members if name in _DEFINED})


def list_schedules(limit: int | None, after: str | None) -> Request[SchedulePage]:
    path = _with_query(_path("schedules"), {"limit": limit, "after": after})
    return Request("GET", path, responses.read_schedules)


def get_schedule(name: str) -> Request[Schedule]:
    return Request("GET", _schedule_path(name), responses.schedule_reader(name))


def put_schedule(schedule: Schedule) -> Request[Schedule]:
    path, read = _schedule_path(schedule.name), responses.schedule_reader(schedule.name)
    return Request("PUT", path, read, body=_definition(schedule), repeat=Repeat.UNSENT)


def patch_schedule(name: str, changes: Mapping[str, Any]) -> Request[Schedule]:
    body = json_bytes(dict(changes))
    path, read = _schedule_path(name), responses.schedule_reader(name)
    return Request("PATCH", path, read, body=body, repeat=Repeat.UNSENT)


def delete_schedule(name: str) -> Request[int]:
    return _delete(_schedule_path(name))


def run_schedule(name: str) -> Request[str]:
    return Request("POST", _schedule_path(name, "runs"), responses.read_made, repeat=Repeat.UNSENT)


def preview_schedule(schedule: Schedule) -> Request[Preview]:
    path = _path("schedules", "preview")
    return Request("POST", path, responses.read_preview, body=_definition(schedule))


# ---- operation ------------------------------------------------------------------------------------


def get_liveness() -> Request[None]:
    return Request("GET", "/livez", responses.read_nothing, repeat=Repeat.NEVER)


def get_readiness() -> Request[None]:
    return Request("GET", "/readyz", responses.read_nothing, repeat=Repeat.NEVER)


def get_metrics() -> Request[str]:
    return Request("GET", "/metrics", responses.read_text)
