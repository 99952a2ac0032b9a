"""The Python client: `Client` and `AsyncClient`, and the names that go with them.

What makes the calls is `ratus.calls`, what `subscribe` runs is `ratus.worker`.
"""

from __future__ import annotations

from ratus.calls.delivery import AsyncDelivery, Delivery
from ratus.calls.inputs import DurationLike, LabelValue, TimeLike
from ratus.calls.responses import LanePage, SchedulePage, TaskPage, ValuePage
from ratus.calls.transport import AsyncTransport, HTTPRequest, HTTPResponse, Transport
from ratus.client.async_client import AsyncClient
from ratus.client.client import Client
from ratus.worker.coroutines import AsyncWorker
from ratus.worker.options import AsyncHandler, Handler
from ratus.worker.threads import Worker

__all__ = [
    "AsyncClient",
    "AsyncDelivery",
    "AsyncHandler",
    "AsyncTransport",
    "AsyncWorker",
    "Client",
    "Delivery",
    "DurationLike",
    "HTTPRequest",
    "HTTPResponse",
    "Handler",
    "LabelValue",
    "LanePage",
    "SchedulePage",
    "TaskPage",
    "TimeLike",
    "Transport",
    "ValuePage",
    "Worker",
]
