"""`App`: functions as tasks."""

from __future__ import annotations

import inspect
import os
import ssl
import sys
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, Self, TypeVar, overload

from ratus.app import connection
from ratus.app.connection import Connection, RemoteConnection
from ratus.app.functions import FailureHook, Handling, SuccessHook, TaskDecorator, TaskFunction, name_of
from ratus.app.in_place import InPlaceConnection
from ratus.app.inside import InsideConnection, flags_of
from ratus.app.jobs import Job
from ratus.app.listening import Listener
from ratus.app.surrounding import Surrounding
from ratus.app.worker import AppWorker
from ratus.calls.address import url_of
from ratus.calls.base import DEFAULT_RETRIES
from ratus.calls.inputs import DurationLike, LabelValue, Order, Topics, seconds
from ratus.client import Client
from ratus.core.models import Retry, Task
from ratus.worker.options import DEFAULT_PREFETCH

if TYPE_CHECKING:
    from ratus.testing.apps import AppTesting

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

_ExceptionTypes = type[BaseException] | Sequence[type[BaseException]]


class App:
    """Functions as tasks: decorate them, push calls of them, and have workers run them.

    - `url`, `token` and what follows `eager`: as for `Client`. `"memory:"` and `"sqlite:tasks.db"` run a
      server within this program, which keeps its tasks in memory or in that file.
    - `topic`: the topic of the functions that name none.
    - `eager`: run each push in place. A task is run as often as its `retry` allows, without the delays, and
      once without `max_attempts`; then its job is done.

    Threads, event loops and forked children may share an app. Nothing is connected before it is needed.
    Raises `ValueError` for arguments that are not valid.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        token: str | None = None,
        topic: str = "default",
        eager: bool = False,
        request_timeout: DurationLike = "30s",
        connect_timeout: DurationLike = "10s",
        retries: int = DEFAULT_RETRIES,
        compress: bool = False,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        if not topic:
            raise ValueError("topic: the name must not be empty")
        self._topic = topic
        self._functions: dict[str, TaskFunction[..., Any, Any]] = {}
        self._middleware: list[Surrounding] = []
        self._lifespans: list[Surrounding] = []
        self._listeners: list[Listener] = []
        options = {
            "request_timeout": request_timeout,
            "connect_timeout": connect_timeout,
            "retries": retries,
            "compress": compress,
            "tls": tls,
        }
        self._connection: Connection
        flags = flags_of(url_of(url))
        if eager:
            self._connection = InPlaceConnection(self._functions, self._middleware, self._lifespans)
        elif flags is not None:
            self._connection = InsideConnection(flags, options)
        else:
            self._connection = RemoteConnection(url, token, options)
        # When the app is garbage, or the program ends.
        weakref.finalize(self, self._connection.let_go)
        _apps.add(self)

    def __repr__(self) -> str:
        return f"<App with {len(self._functions)} task functions>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and connections of the app, after the callbacks that are due already.

        Jobs that are still waited for are forgotten. An app that is used again afterwards connects again.
        """
        self._connection.close()

    @property
    def client(self) -> Client:
        """A client of the app's server, for everything else: topics, tasks, values. The app closes it.

        Raises `RuntimeError` for an app that runs its functions in place.
        """
        if not isinstance(self._connection, RemoteConnection):
            raise RuntimeError("this app runs its functions in place, and has no server")
        return self._connection.client()

    @property
    def functions(self) -> Mapping[str, TaskFunction[..., Any, Any]]:
        """The task functions, by their names on the wire."""
        return self._functions

    @property
    def topics(self) -> tuple[str, ...]:
        """The topics of the task functions, in the order of their first function."""
        return tuple(dict.fromkeys(function.topic for function in self._functions.values()))

    # ---- making ------------------------------------------------------------------------------------

    @overload
    def task(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...

    @overload
    def task(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...

    @overload
    def task(
        self,
        /,
        *,
        name: str | None = None,
        topic: str | None = None,
        priority: int = 0,
        retry: Retry | None = None,
        ttl: DurationLike | None = None,
        defer: DurationLike | None = None,
        timeout: DurationLike | None = None,
        retry_on: _ExceptionTypes | None = None,
        give_up_on: _ExceptionTypes = (),
        on_success: SuccessHook | None = None,
        on_failure: FailureHook | None = None,
        executor: Literal["thread", "process"] | None = None,
        time_limit: DurationLike | None = None,
    ) -> TaskDecorator: ...

    def task(
        self,
        function: Callable[..., Any] | None = None,
        /,
        *,
        name: str | None = None,
        topic: str | None = None,
        priority: int = 0,
        retry: Retry | None = None,
        ttl: DurationLike | None = None,
        defer: DurationLike | None = None,
        timeout: DurationLike | None = None,
        retry_on: _ExceptionTypes | None = None,
        give_up_on: _ExceptionTypes = (),
        on_success: SuccessHook | None = None,
        on_failure: FailureHook | None = None,
        executor: Literal["thread", "process"] | None = None,
        time_limit: DurationLike | None = None,
    ) -> Any:
        """Make a task of a function, as `@app.task` or `@app.task(...)`. Calling it still runs it, here.

        - `name`: the name on the wire; by default `module.function`.
        - `topic`, `priority`, `retry`, `ttl`, `defer`: members of its tasks; see `Task`.
        - `timeout`: how long a worker's claim holds, if the worker dies or stands still; by default 60 s. It
          is extended while the function runs.
        - `retry_on`: the only exceptions after which a task is tried again, by its policy; by default all.
        - `give_up_on`: exceptions after which a task is archived at once.
        - `executor`: where a plain function runs: in a `"thread"` of the worker, the default; or in a
          `"process"`, for what keeps the processor busy or may have to be killed. Such a function stands at
          the top level of its module, which the process imports.
        - `time_limit`: how long an execution may take. Then a coroutine is cancelled, or a process killed,
          and it has failed. A thread cannot be ended, so a plain function needs `executor="process"`.
        - `on_success`, `on_failure`: called in the worker, with the execution and what the function returned
          or raised. What they raise is logged, and changes nothing.

        Raises `ValueError` for members that are not valid and a name that is taken, and `TypeError` for what
        is no function whose calls have an end, such as a generator function.
        """
        members = {
            "topic": topic or self._topic,
            "priority": priority,
            "retry": retry,
            "ttl": ttl,
            "defer": defer,
        }
        if timeout is not None and seconds(timeout, "timeout") <= 0:
            raise ValueError("timeout: it must be longer than 0s")
        handling = Handling(
            timeout,
            None if retry_on is None else _types(retry_on, "retry_on"),
            _types(give_up_on, "give_up_on"),
            on_success,
            on_failure,
            executor == "process",
            None if time_limit is None else seconds(time_limit, "time_limit"),
        )
        if executor not in (None, "thread", "process"):
            raise ValueError(f"executor: {executor!r} is neither 'thread' nor 'process'")
        if handling.time_limit is not None and handling.time_limit <= 0:
            raise ValueError("time_limit: it must be longer than 0s")
        given = {name: value for name, value in members.items() if value is not None}

        def decorate(function: Callable[..., Any]) -> TaskFunction[..., Any, Any]:
            _check_executor(function, executor, handling.time_limit)
            return self._register(function, name, given, handling, local_names)

        # What a function's hints may name that is defined within another function.
        local_names = sys._getframe(1).f_locals
        return decorate if function is None else decorate(function)

    def middleware(self, function: F, /) -> F:
        """Have a generator function run around every call: it gets the execution, and yields once.

        What the function raises is raised at the `yield`. The first middleware is the outermost. An async
        generator is entered on the worker's event loop. Raises `TypeError` for what is no generator function.
        """
        self._middleware.append(Surrounding.of(function, "middleware"))
        return function

    def lifespan(self, function: F, /) -> F:
        """Have a generator function run around the work of every worker: up to its `yield` before the first
        task is claimed, the rest after the last one has ended.

        It is for what functions share, such as connections. A worker whose lifespan raises an exception does
        not start. An async generator runs on the worker's event loop. Raises `TypeError` for what is no
        generator function.
        """
        self._lifespans.append(Surrounding.of(function, "lifespan"))
        return function

    def listener(self, pattern: str, /) -> Callable[[F], F]:
        """Have a plain function called in every worker for each value that changes, with its name and it.

        `pattern` is the name of a value, or the beginning of names and a star. When a worker starts, the
        function is called with the values that there are. Of several changes of one value in quick succession
        only the last may be given, but that always, and in their order. A value that is deleted is `None`. An
        exception is logged. Raises `ValueError` for a pattern that is not valid, and the decorator
        `TypeError` for a coroutine function.
        """
        Listener.of(pattern, print)  # what is wrong with the pattern is an error here

        def decorate(function: F) -> F:
            self._listeners.append(Listener.of(pattern, function))
            return function

        return decorate

    # ---- pushing and looking -----------------------------------------------------------------------

    def job(self, task_id: str) -> Job[Any]:
        """The job with this id, whichever process has pushed it. Asks the server for nothing yet."""
        if not isinstance(task_id, str) or not task_id:
            raise ValueError("a job is known by its id, a text that is not empty")
        return Job(self, task_id)

    # ---- working -----------------------------------------------------------------------------------

    def worker(
        self,
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
    ) -> AppWorker:
        """A worker for the functions of this app; see `AppWorker`."""
        return AppWorker(
            self,
            topics=topics,
            concurrency=concurrency,
            timeout=timeout,
            wait=wait,
            grace=grace,
            prefetch=prefetch,
            order=order,
            where=where,
            prefer=prefer,
            consumer=consumer,
            signals=signals,
        )

    def run_worker(
        self,
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
    ) -> None:
        """Work until SIGTERM or Ctrl-C, and drain; see `AppWorker`."""
        self.worker(
            topics=topics,
            concurrency=concurrency,
            timeout=timeout,
            wait=wait,
            grace=grace,
            prefetch=prefetch,
            order=order,
            where=where,
            prefer=prefer,
            consumer=consumer,
            signals=signals,
        ).run()

    def testing(self) -> AppTesting:
        """A server of the test's own for this app, while a `with` block runs; see `AppTesting`."""
        # Loaded late: it needs the server, and only tests need it.
        from ratus.testing.apps import AppTesting

        return AppTesting(self)

    # ---- underneath --------------------------------------------------------------------------------

    def _register(
        self,
        function: Callable[..., Any],
        name: str | None,
        members: Mapping[str, Any],
        handling: Handling,
        local_names: Mapping[str, Any],
    ) -> TaskFunction[..., Any, Any]:
        if isinstance(function, TaskFunction):
            raise TypeError(f"{function.name} is a task function already; decorate it once")
        if not inspect.isfunction(function):
            raise TypeError(f"task: give a function, not a {type(function).__name__}")
        if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is a generator function, which a call does not run")
        name = name or name_of(function)
        if name in self._functions:
            raise ValueError(f"the name {name} is taken by another task function; give name=")
        is_local = "<locals>" in function.__qualname__
        made: TaskFunction[..., Any, Any] = TaskFunction(
            self, function, name, members, handling, local_names if is_local else None
        )
        self._functions[name] = made
        return made

    def _load_result(self, task: Task) -> Any:
        """The result of a completed task, as the hint of its function has it."""
        if task.result is None:
            return None
        name = task.payload.get("task") if isinstance(task.payload, dict) else None
        function = self._functions.get(name) if isinstance(name, str) else None
        return task.result if function is None else function._signature().load_result(task.result)


def _check_executor(function: Callable[..., Any], executor: str | None, time_limit: float | None) -> None:
    """Raises `ValueError` where a function cannot be run or ended as is asked."""
    if inspect.iscoroutinefunction(function):
        if executor is not None:
            raise ValueError("executor: a coroutine function runs on the worker's event loop; leave it out")
    elif executor != "process":
        if time_limit is not None:
            raise ValueError('time_limit: a thread cannot be ended; give executor="process" as well')
    elif "<locals>" in getattr(function, "__qualname__", ""):
        raise ValueError(
            "executor: a process finds functions by their module, so this one has to be at its top level"
        )


def _types(given: _ExceptionTypes, name: str) -> tuple[type[BaseException], ...]:
    types = (given,) if isinstance(given, type) else tuple(given)
    for each in types:
        if not (isinstance(each, type) and issubclass(each, BaseException)):
            raise TypeError(f"{name}: give classes of exceptions, not {each!r}")
    return types


_apps: weakref.WeakSet[App] = weakref.WeakSet()


def _after_fork() -> None:
    """In a forked child: have each app make threads and connections of its own when it is used."""
    connection._renew_lock()
    for app in list(_apps):
        app._connection.forget()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_after_fork)
