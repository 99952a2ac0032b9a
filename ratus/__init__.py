"""Ratus in Python: a RESTful asynchronous task queue that any program can use with curl.

What a program that uses the queue needs is imported from here:

    from ratus import Client, AsyncClient, Task, Commit, Retry, TaskState
    from ratus import App, current

Names are loaded when they are first asked for, so that the `ratus` command starts without the client, and a
client without the server.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ratus.app import App, AppWorker, Execution, Job, TaskFunction, current
    from ratus.client import (
        AsyncClient,
        AsyncDelivery,
        AsyncHandler,
        AsyncTransport,
        AsyncWorker,
        Client,
        Delivery,
        DurationLike,
        Handler,
        HTTPRequest,
        HTTPResponse,
        LabelValue,
        LanePage,
        SchedulePage,
        TaskPage,
        TimeLike,
        Transport,
        ValuePage,
        Worker,
    )
    from ratus.core.errors import (
        BadRequest,
        Conflict,
        Forbidden,
        HeadersTooLarge,
        InternalError,
        JobCancelled,
        JobExpired,
        JobFailed,
        MethodNotAllowed,
        NotFound,
        NotSupported,
        PayloadTooLarge,
        RatusError,
        RequestTimeout,
        ServiceUnavailable,
        TaskFailed,
        TransportError,
        Unauthorized,
    )
    from ratus.core.models import (
        Commit,
        CommitItem,
        CommitResult,
        Lane,
        Limits,
        PerLabel,
        Priority,
        Promise,
        Rate,
        Retry,
        Task,
        TaskState,
        Topic,
        TopicStates,
        Updated,
        Value,
    )

__version__ = "0.1.0"

__all__ = [
    "App",
    "AppWorker",
    "AsyncClient",
    "AsyncDelivery",
    "AsyncHandler",
    "AsyncTransport",
    "AsyncWorker",
    "BadRequest",
    "Client",
    "Commit",
    "CommitItem",
    "CommitResult",
    "Conflict",
    "Delivery",
    "DurationLike",
    "Execution",
    "Forbidden",
    "HTTPRequest",
    "HTTPResponse",
    "Handler",
    "HeadersTooLarge",
    "InternalError",
    "Job",
    "JobCancelled",
    "JobExpired",
    "JobFailed",
    "LabelValue",
    "Lane",
    "LanePage",
    "LastTask",
    "Limits",
    "MethodNotAllowed",
    "NotFound",
    "NotSupported",
    "PayloadTooLarge",
    "PerLabel",
    "Preview",
    "Priority",
    "Promise",
    "Rate",
    "RatusError",
    "RequestTimeout",
    "Retry",
    "Schedule",
    "SchedulePage",
    "ScheduledTask",
    "ServiceUnavailable",
    "Task",
    "TaskFailed",
    "TaskFunction",
    "TaskPage",
    "TaskState",
    "TimeLike",
    "Topic",
    "TopicStates",
    "Transport",
    "TransportError",
    "Unauthorized",
    "Updated",
    "Value",
    "ValuePage",
    "Worker",
    "__version__",
    "current",
]

_PLACES: Final = ("ratus.core.errors", "ratus.core.models", "ratus.client", "ratus.app")


def __getattr__(name: str) -> Any:
    if name in __all__:
        for place in _PLACES:
            module = import_module(place)
            if hasattr(module, name):
                globals()[name] = value = getattr(module, name)
                return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
