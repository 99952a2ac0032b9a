"""The error tree. Each kind knows its HTTP status and the phrase its messages start with.

    RatusError
     ├─ BadRequest            400   the request itself is wrong; repeating it will not help
     ├─ Unauthorized          401   no token, or (UnknownToken) one that is not known
     ├─ Forbidden             403   the token may not do this
     ├─ NotFound              404   no such task, topic or route; nothing is due
     │   └─ Closed            404   a rate or a hold lets none of what is due be claimed yet
     ├─ MethodNotAllowed      405   the path exists, the method does not
     ├─ RequestTimeout        408   the client took too long to send its request
     ├─ Conflict              409   the id exists, or the task is no longer the caller's
     ├─ PayloadTooLarge       413   the body or the batch is over the limit
     ├─ HeadersTooLarge       431   too many or too large headers
     ├─ InternalError         500   a defect of the server
     ├─ NotSupported           501   a transfer coding that this server does not know
     ├─ ServiceUnavailable    503   not ready, shutting down, or the database is away
     │   └─ Overloaded        503   a limit of all clients together has been reached
     ├─ TaskFailed              -   a task that was waited for has failed; clients only
     │   ├─ JobFailed           -   a task function raised, or its worker died
     │   ├─ JobCancelled        -   the job was cancelled
     │   └─ JobExpired          -   no worker began with the job in time
     └─ TransportError          -   the server could not be reached, or its answer was lost or is not its own;
                                    clients only

Raised anywhere in the server, turned into an answer in one place (``ratus.api.dispatch``), and turned back
into the same error by the client.
"""

from __future__ import annotations

from typing import Any


class RatusError(Exception):
    """Base of all errors. ``status`` is the HTTP status, ``kind`` the phrase that opens the message."""

    status = 500
    kind = "internal server error"

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail)
        self.detail = detail

    @property
    def message(self) -> str:
        """The text that travels: the kind, then the detail where there is one."""
        return f"{self.kind}: {self.detail}" if self.detail else self.kind

    def __str__(self) -> str:
        return self.message


class BadRequest(RatusError):
    """The request is malformed, ill-typed or out of bounds; nothing was changed."""

    status = 400
    kind = "bad request"


class Unauthorized(RatusError):
    """The request carries no token, or one that is not known."""

    status = 401
    kind = "unauthorized"


class UnknownToken(Unauthorized):
    """The request carries a token that is not known. Only the server raises it."""


class Forbidden(RatusError):
    """The token is known, but its scopes do not cover this request; or a page of another origin sent it."""

    status = 403
    kind = "forbidden"


class NotFound(RatusError):
    """No such task, topic or route, or nothing is due."""

    status = 404
    kind = "not found"


class Closed(NotFound):
    """Tasks are due, but a rate or a hold lets none be claimed yet; answered with ``Retry-After``.

    ``reopens`` is when that changes, in microseconds since 1970-01-01 UTC.
    """

    def __init__(self, reopens: int) -> None:
        super().__init__("what is due may not be claimed yet: its rate is used up, or it is on hold")
        self.reopens = reopens


class MethodNotAllowed(RatusError):
    """The path exists, but not with this method; ``allowed`` are those it has."""

    status = 405
    kind = "method not allowed"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        super().__init__(f"use {', '.join(allowed)}" if allowed else "")
        self.allowed = allowed


class RequestTimeout(RatusError):
    """The client took too long to send its request."""

    status = 408
    kind = "request timeout"


class Conflict(RatusError):
    """The id exists already, or the task was changed or claimed by another client."""

    status = 409
    kind = "conflict"


class PayloadTooLarge(RatusError):
    """The body or the batch is over the server's limit."""

    status = 413
    kind = "content too large"


class HeadersTooLarge(RatusError):
    """The request has too many or too large headers."""

    status = 431
    kind = "request header fields too large"


class InternalError(RatusError):
    """A defect of the server; the log has the details."""


class NotSupported(RatusError):
    """The request uses a part of HTTP that this server does not have."""

    status = 501
    kind = "not implemented"


class ServiceUnavailable(RatusError):
    """The server is starting or stopping, or its database cannot be reached; try again."""

    status = 503
    kind = "service unavailable"


class Overloaded(ServiceUnavailable):
    """The server holds as much for its clients as it may; answered with ``Retry-After``."""

    retry_after = 1


class TransportError(RatusError):
    """The server could not be reached, or there was no whole, readable answer of it. Only clients raise it.

    ``status`` is 0 where there was no answer, else the status of an answer that was not the server's, such as
    a proxy's. ``sent`` says whether the server may have carried the request out.
    """

    status = 0
    kind = "transport error"

    def __init__(self, detail: str = "", *, sent: bool = True) -> None:
        super().__init__(detail)
        self.sent = sent


class TaskFailed(RatusError):
    """A task that was waited for was archived: it failed, it expired, or its handler gave it up.

    ``task`` is the task, as a ``ratus.Task``. ``status`` is 0, since no request was refused.
    """

    status = 0
    kind = "task failed"

    def __init__(self, detail: str = "", task: Any = None) -> None:
        super().__init__(detail)
        self.task = task


class JobFailed(TaskFailed):
    """A job of an `App` has failed: its function raised or gave up, or the last of its workers died.

    ``traceback`` is the traceback in the worker, as text; empty where there is none. It is also a note of the
    exception, so that it is printed with it.
    """

    kind = "job failed"

    @property
    def traceback(self) -> str:
        """The traceback in the worker, as text; empty where there is none."""
        return str(self.task.error).partition("\n\n")[2] if self.task is not None else ""


class JobCancelled(TaskFailed):
    """A job of an `App` was cancelled before it was done."""

    kind = "job cancelled"


class JobExpired(TaskFailed):
    """A job of an `App` has expired: no worker began with it in time."""

    kind = "job expired"


class StartupError(Exception):
    """The service cannot start (damaged file, bad path); the text is one clear line for the operator."""
