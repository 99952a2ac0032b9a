"""The worker of an app: runs its functions by the workers of `ratus.worker`.

Where all functions, the middleware and the lifespans are plain, that is the worker with threads, else the one
with an event loop, which has threads for plain functions.
"""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from types import TracebackType
from typing import Any, Final, Protocol, Self

from ratus.app.connection import Connection, RemoteConnection
from ratus.app.functions import TaskFunction
from ratus.app.listening import Listener, Listening
from ratus.app.pool import ThreadPool
from ratus.app.runner import Observer, Processes, Runner
from ratus.app.surrounding import Surrounding
from ratus.calls.delivery import AsyncDelivery
from ratus.calls.inputs import DurationLike, LabelValue, Order, Topics, seconds, topic_names
from ratus.calls.steps import Steps
from ratus.worker.coroutines import AsyncWorker
from ratus.worker.options import DEFAULT_PREFETCH, Options
from ratus.worker.threads import Worker

DEFAULT_TIMEOUT: Final = 60.0
"""Seconds for which a claim holds where neither the worker nor a function says so."""


class Workplace(Protocol):
    """What a worker needs of its app."""

    _connection: Connection
    _middleware: list[Surrounding]
    _lifespans: list[Surrounding]
    _listeners: list[Listener]

    @property
    def functions(self) -> Mapping[str, TaskFunction[..., Any, Any]]: ...

    @property
    def topics(self) -> tuple[str, ...]: ...


class AppWorker:
    """Runs the functions of an app, in one worker: `def` in threads, or in processes where
    `executor="process"` says so, `async def` on an event loop.

    - `topics`: which topics to work on, in order of preference; by default those of all functions.
    - `concurrency`: how many functions are executed at a time.
    - `timeout`: how long a claim holds; by default the longest `timeout` of the functions of these topics.
    - `consumer`: the name under which tasks are claimed; by default `host:pid`.
    - `wait`, `grace`, `prefetch`, `order`, `where`, `prefer`, `signals`: as for `Worker`.

    `run` works until SIGTERM, Ctrl-C or `stop`; `run_async` does so within an event loop. As a context
    manager the worker runs in a thread of its own, beside the program, and drains at the end of the block. A
    worker runs only once.

    Raises `ValueError` or `TypeError` for arguments that do not fit, and for functions whose hints cannot be
    converted.
    """

    def __init__(
        self,
        app: Workplace,
        *,
        topics: Topics | None = None,
        concurrency: int = 8,
        timeout: DurationLike | None = None,
        wait: DurationLike = "20s",
        grace: DurationLike = "30s",
        prefetch: int = DEFAULT_PREFETCH,
        order: Order | None = None,
        where: Mapping[str, LabelValue] | None = None,
        prefer: str | Sequence[str] | None = None,
        consumer: str | None = None,
        signals: bool = True,
        observer: Observer | None = None,
        begin_process: Callable[[], None] | None = None,
    ) -> None:
        self._app = app
        self._begin_process = begin_process
        if topics is None and not app.functions:
            raise ValueError("topics: the app has no task functions; name the topics, or make some functions")
        self.topics = topic_names(app.topics if topics is None else topics)
        """The topics that are worked on, in order of preference."""
        self.consumer = f"{socket.gethostname()}:{os.getpid()}" if consumer is None else consumer
        """The name under which tasks are claimed."""
        self.timeout = self._longest_timeout() if timeout is None else seconds(timeout, "timeout")
        """For how many seconds a claim holds."""
        self._options: dict[str, Any] = {
            "concurrency": concurrency,
            "timeout": self.timeout,
            "wait": wait,
            "grace": grace,
            "prefetch": prefetch,
            "order": order,
            "where": where,
            "prefer": prefer,
        }
        Options.check(self.topics, **self._options)
        for function in app.functions.values():
            function._signature()  # a hint that cannot be converted is an error here, not in each task
        self._signals = signals
        self._observer = observer
        self._lock = threading.Lock()
        self._stopped = False
        self._begun = False
        self._engine: Worker | AsyncWorker | None = None
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Work until stopped, and drain. Raises what ended the worker otherwise; see `Worker.run`."""
        if self._needs_loop():
            asyncio.run(self.run_async())
            return
        self._begin()
        with ExitStack() as stack:
            for lifespan in self._app._lifespans:
                stack.enter_context(lifespan.enter())
            client = stack.enter_context(self._connection().new_client(self.consumer))
            self._listen(stack)
            runner = Runner(
                self._app.functions,
                self._app._middleware,
                observer=self._observer,
                processes=self._processes(stack.callback),
            )
            worker = Worker(
                client,
                self.topics,
                runner.run,
                consumer=self.consumer,
                signals=self._signals,
                **self._options,
            )
            if self._may_go(worker):
                worker.run()

    async def run_async(self) -> None:
        """As `run`, within an event loop."""
        self._begin()
        async with AsyncExitStack() as stack:
            for lifespan in self._app._lifespans:
                if lifespan.is_async:
                    await stack.enter_async_context(lifespan.enter())
                else:
                    stack.enter_context(lifespan.enter())
            client = await stack.enter_async_context(self._connection().new_async_client(self.consumer))
            self._listen(stack)
            threads = ThreadPool(self._options["concurrency"])
            stack.callback(threads.close)
            runner = Runner(
                self._app.functions,
                self._app._middleware,
                observer=self._observer,
                threads=threads,
                processes=self._processes(stack.callback),
            )
            worker = _LoopWorker(
                client,
                self.topics,
                runner.run_async,
                consumer=self.consumer,
                signals=self._signals,
                **self._options,
            )
            if self._may_go(worker):
                await worker.run()

    def stop(self) -> None:
        """Have the worker drain, after which `run` returns. Returns at once; may be called in any thread."""
        with self._lock:
            self._stopped = True
            engine = self._engine
        if engine is not None:
            engine.stop()

    @property
    def is_working(self) -> bool:
        """Whether the worker claims tasks: not before its lifespans were entered, nor once it drains."""
        with self._lock:
            return self._engine is not None and not self._stopped and not self._engine._stopping.is_set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run_in_thread, name="ratus-worker", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._thread is not None, "it was entered"
        self.stop()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _run_in_thread(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error

    def _begin(self) -> None:
        with self._lock:
            if self._begun:
                raise RuntimeError("a worker runs only once; make another one")
            self._begun = True

    def _may_go(self, engine: Worker | AsyncWorker) -> bool:
        """Note the worker that is about to run. Returns false if it was stopped before."""
        with self._lock:
            self._engine = engine
            return not self._stopped

    def _connection(self) -> RemoteConnection:
        connection = self._app._connection
        if not isinstance(connection, RemoteConnection):
            raise RuntimeError("this app runs its functions in place, so that there is nothing for a worker")
        return connection

    def _listen(self, stack: ExitStack | AsyncExitStack) -> None:
        """Have the listeners of the app called until the stack is left."""
        if self._app._listeners:
            client = stack.enter_context(self._connection().new_client(self.consumer))
            stack.enter_context(Listening(self._app._listeners, client))

    def _processes(self, at_end: Callable[[Callable[[], None]], Any]) -> Processes | None:
        """The processes for the functions that run in some; `None` where there are none."""
        for function in self._app.functions.values():
            if function.handling.in_process:
                # Loaded late: most workers have no use for it.
                from ratus.app.processes import ProcessPool

                pool = ProcessPool(function, self._connection().where(), self._begin_process)
                at_end(pool.close)
                return pool
        return None

    def _needs_loop(self) -> bool:
        app = self._app
        return (
            any(function.is_coroutine for function in app.functions.values())
            or any(each.is_async for each in app._middleware)
            or any(each.is_async for each in app._lifespans)
        )

    def _longest_timeout(self) -> float:
        served = [each for each in self._app.functions.values() if each.topic in self.topics]
        given = [each.handling.timeout for each in served]
        return max(
            (DEFAULT_TIMEOUT if each is None else seconds(each, "timeout") for each in given),
            default=DEFAULT_TIMEOUT,
        )


class _LoopWorker(AsyncWorker):
    """As `AsyncWorker`; cancels the execution of a task whose claim turns out to be lost."""

    def _extend(self, delivery: AsyncDelivery) -> Steps[None]:
        yield from super()._extend(delivery)
        if delivery._lost:
            task = self._running.get(delivery)
            if task is not None:
                task.cancel()
