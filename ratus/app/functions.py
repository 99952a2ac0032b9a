"""Task functions: what `App.task` makes of a function, and how its calls are pushed."""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, Protocol, TypeVar, cast, overload

from ratus.app.encoding import Signature
from ratus.app.execution import Execution
from ratus.app.jobs import Home, Job
from ratus.calls.inputs import DurationLike, TimeLike, json_bytes
from ratus.core.models import Retry, Task

if TYPE_CHECKING:
    from collections.abc import Coroutine

P = ParamSpec("P")
C = TypeVar("C")
R = TypeVar("R")

Call = Sequence[Any] | Mapping[str, Any]
"""The arguments of one call of `push_many`: by position, or by name."""

SuccessHook = Callable[[Execution, Any], Any]
"""Is called in the worker with the execution and what the function returned."""

FailureHook = Callable[[Execution, BaseException], Any]
"""Is called in the worker with the execution and the exception of each attempt that fails."""


@dataclass(frozen=True, slots=True)
class Handling:
    """What the worker does with the outcomes of a function."""

    timeout: DurationLike | None = None
    retry_on: tuple[type[BaseException], ...] | None = None
    give_up_on: tuple[type[BaseException], ...] = ()
    on_success: SuccessHook | None = None
    on_failure: FailureHook | None = None
    in_process: bool = False
    """Whether the function runs in a process of its own."""

    time_limit: float | None = None
    """Seconds after which an execution is ended."""

    def is_final(self, error: BaseException) -> bool:
        """Whether the task is archived at once after this exception."""
        if isinstance(error, self.give_up_on):
            return True
        return self.retry_on is not None and not isinstance(error, self.retry_on)


class Pushing(Generic[P, R]):
    """Pushes calls of a function, with the members that its tasks get."""

    def __init__(self, app: Home, function: TaskFunction[P, Any, R], members: Mapping[str, Any]) -> None:
        self._app = app
        self._function = function
        self._members = dict(members)
        self._id = self._members.pop("id", "")
        # Checks the members, and writes what all tasks have in common.
        wire = Task(id=self._id, **self._members).to_wire()
        wire.pop("_id", None)
        self._head = json_bytes(wire)[:-1]

    def push(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """Have a worker call the function with these arguments. Returns the job at once.

        Raises `TypeError` for arguments that do not fit, and a `RatusError` when the server does not take the
        task. Where a task with the same id exists, nothing is changed, and the job is that task's.
        """
        task_id = self._id or new_id()
        self._app._connection.insert((self._item(task_id, args, kwargs),))
        return Job(self._app, task_id)

    async def apush(self, *args: P.args, **kwargs: P.kwargs) -> Job[R]:
        """As `push`, for coroutines."""
        task_id = self._id or new_id()
        await self._app._connection.insert_async((self._item(task_id, args, kwargs),))
        return Job(self._app, task_id)

    def push_many(self, calls: Iterable[Call]) -> list[Job[R]]:
        """Push many calls, in batches. Each is a tuple of arguments by position, or a dict by name.

        The calls may come from a generator. When an error is raised, earlier batches are pushed.
        """
        ids: list[str] = []
        self._app._connection.insert(self._items(calls, ids))
        return [Job(self._app, task_id) for task_id in ids]

    async def apush_many(self, calls: Iterable[Call]) -> list[Job[R]]:
        """As `push_many`, for coroutines."""
        ids: list[str] = []
        await self._app._connection.insert_async(list(self._items(calls, ids)))
        return [Job(self._app, task_id) for task_id in ids]

    def _items(self, calls: Iterable[Call], ids: list[str]) -> Iterator[bytes]:
        if self._id:
            raise ValueError("id: push_many makes many tasks, which cannot have one id; use push")
        if isinstance(calls, str | bytes | Mapping):
            raise TypeError(
                f"push_many takes several calls, such as [(1,), (2,)], not a {type(calls).__name__}"
            )
        prefix = new_id()
        for number, call in zip(itertools.count(), calls, strict=False):
            task_id = f"{prefix}-{number}"
            if isinstance(call, tuple | list):
                item = self._item(task_id, call, {})
            elif isinstance(call, Mapping):
                item = self._item(task_id, (), call)
            else:
                raise TypeError(
                    f"call {number}: give the arguments as a tuple, such as ({call!r:.40},), or as a dict, "
                    f"not as {type(call).__name__}"
                )
            ids.append(task_id)
            yield item

    def _item(self, task_id: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> bytes:
        payload = self._function._signature().payload(args, kwargs)
        return b'%b,"_id":%b,"payload":%b}' % (self._head, json_bytes(task_id), payload)


class TaskFunction(Pushing[P, R], Generic[P, C, R]):
    """A function whose calls can be pushed; made by `App.task`. Calling it runs the function, here."""

    def __init__(
        self,
        app: Home,
        function: Callable[P, C],
        name: str,
        members: Mapping[str, Any],
        handling: Handling,
        local_names: Mapping[str, Any] | None,
    ) -> None:
        self.__name__ = function.__name__
        self.name = name
        """The name on the wire, by which workers find the function."""
        self.function = function
        """The function itself."""
        self.is_coroutine = inspect.iscoroutinefunction(function)
        """Whether it was made by `async def`, so that workers run it on an event loop."""
        self.handling = handling
        self._local_names = local_names
        self._known_signature: Signature | None = None
        super().__init__(app, self, members)
        functools.update_wrapper(cast("Callable[..., Any]", self), function)

    def __repr__(self) -> str:
        return f"<TaskFunction {self.name}>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Pickled as what a process finds by importing the module.
        return _find, (self.function.__module__, self.function.__qualname__)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> C:
        return self.function(*args, **kwargs)

    @property
    def topic(self) -> str:
        """The topic that its calls are pushed into."""
        return str(self._members["topic"])

    def options(
        self,
        *,
        id: str | None = None,
        topic: str | None = None,
        priority: int | None = None,
        retry: Retry | None = None,
        defer: DurationLike | None = None,
        scheduled: TimeLike | None = None,
        ttl: DurationLike | None = None,
        expires: TimeLike | None = None,
        producer: str | None = None,
    ) -> Pushing[P, R]:
        """The function with other members for its tasks: `resize.options(defer="1h").push(7)`.

        The members are those of `Task`; what is left out is as the decorator says. Raises `ValueError` for
        members that are not valid.
        """
        given = {
            "id": id,
            "topic": topic,
            "priority": priority,
            "retry": retry,
            "defer": defer,
            "scheduled": scheduled,
            "ttl": ttl,
            "expires": expires,
            "producer": producer,
        }
        members = self._members | {name: value for name, value in given.items() if value is not None}
        return Pushing(self._app, self, members)

    def _signature(self) -> Signature:
        # Read when it is first needed: a hint may name what its module defines further down.
        if self._known_signature is None:
            self._known_signature = Signature(self.function, self.name, self._local_names)
            self._local_names = None
        return self._known_signature


class TaskDecorator(Protocol):
    """What `App.task` with arguments returns: a decorator of functions and coroutine functions."""

    @overload
    def __call__(
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> TaskFunction[P, Coroutine[Any, Any, R], R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> TaskFunction[P, R, R]: ...


def new_id() -> str:
    """A random id."""
    return os.urandom(16).hex()


def _find(module: str, name: str) -> Any:
    found: Any = importlib.import_module(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def name_of(function: Callable[..., Any]) -> str:
    """The name of a function on the wire: `module.function`.

    A function of a program that is run as a script is named after the file, as if it were imported: so a
    script that pushes and a worker that imports it agree.
    """
    module = function.__module__
    if module in ("__main__", "__mp_main__"):  # the latter is the program's in a process of its worker
        names = function.__globals__
        spec, path = names.get("__spec__"), names.get("__file__")
        if spec is not None:
            module = str(spec.name).removesuffix(".__main__")
        elif path:
            module = os.path.splitext(os.path.basename(path))[0]
    return f"{module}.{function.__qualname__.replace('.<locals>', '')}"
