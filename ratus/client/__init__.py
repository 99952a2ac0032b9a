"""The Python client: `Client` and `AsyncClient`, what they hand out, and workers on top of them.

requests, answers    every call as a request, every answer as a value or an error; pure
retrying             what is repeated when; pure
http1                HTTP/1.1 as bytes; pure
sync_transport, async_transport    connections
client, async_client    the two clients, thin over all of the above
delivery             a claimed task and what is to become of it
worker               subscribing
"""

from __future__ import annotations

from ratus.client.answers import TaskPage
from ratus.client.async_client import AsyncClient
from ratus.client.client import Client
from ratus.client.delivery import AsyncDelivery, Delivery
from ratus.client.inputs import DurationLike, TimeLike
from ratus.worker.coroutines import AsyncWorker
from ratus.worker.options import AsyncHandler, Handler
from ratus.worker.threads import Worker

__all__ = [
    "AsyncClient",
    "AsyncDelivery",
    "AsyncHandler",
    "AsyncWorker",
    "Client",
    "Delivery",
    "DurationLike",
    "Handler",
    "TaskPage",
    "TimeLike",
    "Worker",
]
