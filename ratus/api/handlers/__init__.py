"""What each route does: read the request, call the engine, write the answer. A file for each resource.

Handlers do not call handlers.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from ratus.api.call import Call, Response
from ratus.api.handlers.documentation import DocumentationHandlers
from ratus.api.handlers.operation import OperationHandlers
from ratus.api.handlers.promises import PromiseHandlers
from ratus.api.handlers.schedules import ScheduleHandlers
from ratus.api.handlers.tasks import TaskHandlers
from ratus.api.handlers.topics import TopicHandlers
from ratus.api.handlers.values import ValueHandlers
from ratus.api.parsing import Reader
from ratus.core.clock import Clock
from ratus.engine import Engine
from ratus.metrics import Metrics
from ratus.runtime.long_polls import LongPollQueue
from ratus.runtime.scheduler import Scheduler
from ratus.runtime.value_watch import ValueWatch

Handler = Callable[[Call], Awaitable[Response]]


class Handlers:
    """The operations of `ratus.api.routes` by name."""

    def __init__(
        self,
        *,
        engine: Engine,
        long_polls: LongPollQueue,
        value_watch: ValueWatch,
        scheduler: Scheduler,
        reader: Reader,
        metrics: Metrics,
        clock: Clock,
        scrape: Callable[[], AsyncIterator[bytes]],
    ) -> None:
        self._read = reader
        self._operation = OperationHandlers(engine, scrape)
        self._resources = (
            TaskHandlers(engine, reader, metrics, clock, long_polls),
            PromiseHandlers(engine, reader, metrics, clock, long_polls),
            TopicHandlers(engine, reader, metrics),
            ValueHandlers(reader, clock, value_watch),
            ScheduleHandlers(engine, reader, scheduler),
            self._operation,
            DocumentationHandlers(),
        )

    def operation(self, name: str) -> Handler:
        """The handler of the route with this ``operation``. Raises `AttributeError` where none has it."""
        resource = next((each for each in self._resources if hasattr(each, name)), self._operation)
        handler: Handler = getattr(resource, name)
        return handler

    async def opened(self, operation: str, body: bytes) -> bytes:
        """A large body, read in slices; see `Reader.opened`."""
        return await self._read.opened(operation, body)

    @property
    def draining(self) -> bool:
        """Whether the server is stopping; `/readyz` says so."""
        return self._operation.draining

    @draining.setter
    def draining(self, draining: bool) -> None:
        self._operation.draining = draining
