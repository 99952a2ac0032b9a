"""Answers become values and errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import msgspec
from pydantic import ValidationError

from ratus import errors
from ratus.client.claims import Claimed, ClaimedList, CommitStatus, CommitStatuses
from ratus.client.http1 import Answer
from ratus.errors import MethodNotAllowed, RatusError, ServiceUnavailable, TransportError
from ratus.models import (
    CommitResult,
    CommitResults,
    Deleted,
    Promise,
    Promises,
    Task,
    Tasks,
    Topic,
    Topics,
    Updated,
    WireModel,
)

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
        errors.ServiceUnavailable,
    )
}
"""The error of each status, as the server has them, but for 405, which names the methods there are."""

# What a proxy says when the server behind it is away; for the caller it is the same.
_GATEWAY: Final = (502, 504)

_SHOWN: Final = 200
"""Characters of somebody else's error page that go into a message."""


class TaskPage(list[Task]):
    """A page of tasks, and where the next one begins.

    `next` is the cursor for `after`: empty on the last page, and where the list was not walked by cursor.
    """

    def __init__(self, tasks: list[Task], next_page: str) -> None:
        super().__init__(tasks)
        self.next = next_page


def is_ours(answer: Answer) -> bool:
    """Whether the answer is a Ratus error, and not one of a proxy or another server at this address."""
    return _error_of(answer) is not None


def error_of(answer: Answer) -> RatusError:
    """The error that an answer other than a success stands for; `status` is that of the answer."""
    message = _error_of(answer)
    if message is None:
        text = " ".join(answer.body.decode("utf-8", "replace").split())[:_SHOWN]
        message = f"status {answer.status}, without a Ratus error" + (f": {text}" if text else "")
    error: RatusError
    if answer.status == MethodNotAllowed.status:
        error = MethodNotAllowed(tuple(filter(None, answer.allow.replace(" ", "").split(","))))
    elif answer.status in KINDS or answer.status in _GATEWAY:
        kind = KINDS.get(answer.status, ServiceUnavailable)
        error = kind(message.removeprefix(kind.kind).removeprefix(": "))
    else:
        error = RatusError(message)
    error.status = answer.status
    return error


def _error_of(answer: Answer) -> str | None:
    try:
        message = msgspec.json.decode(answer.body)["error"]["message"]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError):
        return None
    return message if isinstance(message, str) else None


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


read_claimed: Final = _struct_reader(Claimed)
_read_claimed_list: Final = _struct_reader(ClaimedList)
_read_statuses: Final = _struct_reader(CommitStatuses)


def read_claimed_list(body: bytes) -> list[Claimed]:
    """The tasks that a claim of several got."""
    return _read_claimed_list(body).data


def read_statuses(body: bytes) -> list[CommitStatus]:
    """What became of each commit of a batch, in short."""
    return _read_statuses(body).data


def read_task(body: bytes) -> Task:
    """One task."""
    return _model(Task, body)


def read_tasks(body: bytes) -> TaskPage:
    """A page of tasks."""
    page = _model(Tasks, body)
    return TaskPage(page.data, page.next)


def read_topic(body: bytes) -> Topic:
    """One topic."""
    return _model(Topic, body)


def read_topics(body: bytes) -> list[Topic]:
    """A page of topics."""
    return _model(Topics, body).data


def read_promise(body: bytes) -> Promise:
    """One claim."""
    return _model(Promise, body)


def read_promises(body: bytes) -> list[Promise]:
    """A page of claims."""
    return _model(Promises, body).data


def read_commit_results(body: bytes) -> list[CommitResult]:
    """What became of each commit of a batch."""
    return _model(CommitResults, body).data


def read_updated(body: bytes) -> Updated:
    """How much was written."""
    return _model(Updated, body)


def read_deleted(body: bytes) -> int:
    """How much was deleted or released."""
    return _model(Deleted, body).deleted


def read_text(body: bytes) -> str:
    """Plain text, such as metrics."""
    return body.decode("utf-8", "replace")


def read_nothing(body: bytes) -> None:
    """An answer that says all by its status."""
