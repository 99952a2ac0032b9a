"""Turns responses into values and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from pydantic import ValidationError

from ratus.calls.claims import Claimed, ClaimedList, CommitStatus, CommitStatuses
from ratus.calls.http1 import Response
from ratus.core import errors
from ratus.core.errors import MethodNotAllowed, RatusError, ServiceUnavailable, TransportError
from ratus.core.models import (
    CommitResult,
    CommitResults,
    Deleted,
    Lane,
    Lanes,
    Made,
    Preview,
    Promise,
    Promises,
    Schedule,
    Schedules,
    Task,
    Tasks,
    Topic,
    Topics,
    Updated,
    Values,
    WireModel,
)
from ratus.core.models import Value as SharedValue

Model = TypeVar("Model", bound=WireModel)
Value = TypeVar("Value")

KINDS: Final[dict[int, type[RatusError]]] = {
    kind.status: kind
    for kind in (
        errors.BadRequest,
        errors.Unauthorized,
        errors.Forbidden,
        errors.NotFound,
        errors.Conflict,
        errors.RequestTimeout,
        errors.PayloadTooLarge,
        errors.HeadersTooLarge,
        errors.InternalError,
        errors.NotSupported,
        errors.ServiceUnavailable,
    )
}
"""The error class of each status; without 405, whose error is made from the response's `Allow` header."""

# Statuses by which a proxy says that the server behind it is away; they count as the server's own 503.
_GATEWAY: Final = (502, 503, 504)

_SHOWN: Final = 200
"""Characters of a foreign error page that go into a message."""


class TaskPage(list[Task]):
    """The tasks of one page, and where the next page begins.

    `next` is the cursor to give as `after`. It is empty on the last page, and where the page was not asked
    for by cursor.
    """

    def __init__(self, tasks: list[Task], next_page: str) -> None:
        super().__init__(tasks)
        self.next = next_page


class LanePage(list[Lane]):
    """The lanes of one page. `next` is the cursor to give as `after`; it is empty on the last page."""

    def __init__(self, lanes: list[Lane], next_page: str) -> None:
        super().__init__(lanes)
        self.next = next_page


class ValuePage(list[SharedValue]):
    """The values of one page. `next` is where the next page begins, empty on the last one."""

    def __init__(self, values: list[SharedValue], next_page: str) -> None:
        super().__init__(values)
        self.next = next_page


class SchedulePage(list[Schedule]):
    """The schedules of one page. `next` is where the next page begins, empty on the last one."""

    def __init__(self, schedules: list[Schedule], next_page: str) -> None:
        super().__init__(schedules)
        self.next = next_page


def error_of(response: Response) -> RatusError:
    """The error that an unsuccessful response stands for; its `status` is that of the response.

    Only a response with Ratus's error object is the server's own. Any other comes from something between the
    client and the server, such as a proxy in a deployment, and says nothing about tasks: it is a
    `ServiceUnavailable` or a `TransportError`, never a `NotFound` or a `Conflict`.
    """
    message = _message_of(response)
    error: RatusError
    if message is None:
        error = _foreign(response)
    elif response.status == MethodNotAllowed.status:
        error = MethodNotAllowed(tuple(filter(None, response.allow.replace(" ", "").split(","))))
    elif response.status in KINDS:
        kind = KINDS[response.status]
        error = kind(message.removeprefix(kind.kind).removeprefix(": "))
    else:
        error = RatusError(message)
    error.status = response.status
    return error


def _message_of(response: Response) -> str | None:
    """The message of Ratus's error object, whose code is the status; `None` where the body is not one."""
    try:
        error = msgspec.json.decode(response.body)["error"]
        code, message = error["code"], error["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return message if isinstance(message, str) and type(code) is int and code == response.status else None


def _foreign(response: Response) -> RatusError:
    text = " ".join(response.body.decode("utf-8", "replace").split())[:_SHOWN]
    message = f"status {response.status}, without a Ratus error" + (f": {text}" if text else "")
    if response.location:
        message += f"; it points to {response.location[:_SHOWN]}: is that the server's address?"
    if response.status in _GATEWAY:
        return ServiceUnavailable(message)
    # A redirect or a refusal (3xx, 4xx): what responded did not pass the request on to the server.
    return TransportError(message, sent=not 300 <= response.status < 500)


def _unreadable(error: Exception) -> TransportError:
    return TransportError(f"the answer is not one that a Ratus server gives: {error}; is this its address?")


def _struct_reader(kind: type[Value]) -> Callable[[bytes], Value]:
    decoder = msgspec.json.Decoder(kind)

    def read(body: bytes) -> Value:
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise _unreadable(error) from None

    return read


def _model(kind: type[Model], body: bytes) -> Model:
    try:
        return kind.model_validate(msgspec.json.decode(body))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValidationError) as error:
        raise _unreadable(error) from None


_read_claimed: Final = _struct_reader(Claimed)
_read_claimed_list: Final = _struct_reader(ClaimedList)
_read_statuses: Final = _struct_reader(CommitStatuses)


def claimed_reader(task_id: str) -> Callable[[bytes], Claimed]:
    """Reads the claimed task `task_id`. Raises `TransportError` for another one."""

    def read(body: bytes) -> Claimed:
        claimed = _read_claimed(body)
        return _same(claimed, claimed.id, task_id)

    return read


def read_claimed_list(body: bytes) -> list[Claimed]:
    """The tasks that a poll has claimed."""
    return _read_claimed_list(body).data


def read_statuses(body: bytes) -> list[CommitStatus]:
    """The status of each commit of a batch."""
    return _read_statuses(body).data


def task_reader(task_id: str) -> Callable[[bytes], Task]:
    """Reads the task `task_id`. Raises `TransportError` for another one."""

    def read(body: bytes) -> Task:
        task = _model(Task, body)
        return _same(task, task.id, task_id)

    return read


def promise_reader(task_id: str) -> Callable[[bytes], Promise]:
    """Reads the claim of the task `task_id`. Raises `TransportError` for another one."""

    def read(body: bytes) -> Promise:
        promise = _model(Promise, body)
        return _same(promise, promise.id, task_id)

    return read


def topic_reader(name: str) -> Callable[[bytes], Topic]:
    """Reads the topic `name`. Raises `TransportError` for another one."""

    def read(body: bytes) -> Topic:
        topic = _model(Topic, body)
        return _same(topic, topic.name, name)

    return read


def _same(value: Value, name: str, asked: str) -> Value:
    # Nearly all members may be left out, so that any JSON object could pass for a task.
    if name != asked:
        raise _unreadable(ValueError("it is not about what was asked"))
    return value


def read_tasks(body: bytes) -> TaskPage:
    """A page of tasks."""
    page = _model(Tasks, body)
    return TaskPage(page.data, page.next)


def read_lanes(body: bytes) -> LanePage:
    """A page of lanes."""
    page = _model(Lanes, body)
    return LanePage(page.data, page.next)


def read_topics(body: bytes) -> list[Topic]:
    """A page of topics."""
    return _model(Topics, body).data


def value_reader(name: str) -> Callable[[bytes], SharedValue]:
    """Reads the value `name`. Raises `TransportError` for another one."""

    def read(body: bytes) -> SharedValue:
        value = _model(SharedValue, body)
        return _same(value, value.name, name)

    return read


def read_values(body: bytes) -> ValuePage:
    """A page of values."""
    page = _model(Values, body)
    return ValuePage(page.data, page.next)


def schedule_reader(name: str) -> Callable[[bytes], Schedule]:
    """Reads the schedule `name`. Raises `TransportError` for another one."""

    def read(body: bytes) -> Schedule:
        schedule = _model(Schedule, body)
        return _same(schedule, schedule.name, name)

    return read


def read_schedules(body: bytes) -> SchedulePage:
    """A page of schedules."""
    page = _model(Schedules, body)
    return SchedulePage(page.data, page.next)


def read_preview(body: bytes) -> Preview:
    """What a schedule would do."""
    return _model(Preview, body)


def read_made(body: bytes) -> str:
    """The id of the task that was made."""
    return _model(Made, body).id


def read_promises(body: bytes) -> list[Promise]:
    """A page of claims."""
    return _model(Promises, body).data


def read_commit_results(body: bytes) -> list[CommitResult]:
    """What became of each commit of a batch."""
    return _model(CommitResults, body).data


def read_updated(body: bytes) -> Updated:
    """How many tasks were inserted, and how many replaced."""
    return _model(Updated, body)


def read_deleted(body: bytes) -> int:
    """How many tasks were deleted, or claims released."""
    return _model(Deleted, body).deleted


def read_text(body: bytes) -> str:
    """Plain text, such as metrics."""
    return _no_page(body).decode("utf-8", "replace")


def read_nothing(body: bytes) -> None:
    """Nothing, since the status says all. Raises `TransportError` for an HTML page."""
    _no_page(body)


def _no_page(body: bytes) -> bytes:
    # A network whose users must sign in first answers every request with an HTML page and status 200.
    if body.lstrip()[:1] == b"<":
        raise _unreadable(ValueError("it is a page for a browser"))
    return body
