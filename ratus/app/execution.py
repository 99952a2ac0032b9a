"""The execution of a task function: what `current` returns within it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextvars import ContextVar
from typing import Any, Final, NoReturn, Protocol

from ratus.calls.inputs import DurationLike, duration_text


class Claim(Protocol):
    """The claim that an execution works under."""

    @property
    def id(self) -> str: ...

    @property
    def topic(self) -> str: ...

    @property
    def attempts(self) -> int: ...

    @property
    def lost(self) -> bool: ...


class Decision(Exception):
    """Ends an execution in another way than by result or failure. Raised by `Execution.retry` and
    `Execution.give_up`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RetryAfter(Decision):
    """The task is tried again after `delay`, or by its policy; `counts` says whether this was an attempt."""

    def __init__(self, reason: str, delay: str | None, *, counts: bool) -> None:
        super().__init__(reason)
        self.delay = delay
        self.counts = counts


class GiveUp(Decision):
    """The task is archived, whatever attempts are left."""


class Execution:
    """One execution of a task function, as the function, its hooks and the middleware see it."""

    __slots__ = ("_claim", "args", "kwargs", "name")

    def __init__(self, claim: Claim, name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        self._claim = claim
        self.name = name
        """The name of the function on the wire."""
        self.args = args
        """The positional arguments, converted."""
        self.kwargs = kwargs
        """The named arguments, converted."""

    def __repr__(self) -> str:
        return f"<Execution of {self.name} for task {self.id!r}, attempt {self.attempts}>"

    @property
    def id(self) -> str:
        """The id of the task."""
        return self._claim.id

    @property
    def topic(self) -> str:
        """The topic that the task was claimed from."""
        return self._claim.topic

    @property
    def attempts(self) -> int:
        """Which attempt this is: 1 is the first."""
        return self._claim.attempts

    @property
    def lost(self) -> bool:
        """Whether the claim is no longer held, so that the work is in vain: the task was cancelled, or
        another worker may run it by now. A function that takes long should read this now and then. A
        coroutine is cancelled besides, as soon as the worker has noticed."""
        return self._claim.lost

    def retry(self, delay: DurationLike | None = None, *, reason: str = "", counts: bool = True) -> NoReturn:
        """End this execution, and have the task tried again after `delay`; by default when its policy says.

        It counts as a failed attempt, so that a task without attempts left is archived; with `counts=False`
        it does not. `reason` goes into the task's `error` if it counts. Raises an exception that must not be
        caught, and `ValueError` or `TypeError` for what is no duration.
        """
        text = None if delay is None else duration_text(delay, "delay")
        raise RetryAfter(reason or "the function asked to be run again", text, counts=counts)

    def give_up(self, reason: str) -> NoReturn:
        """End this execution, and have the task archived with this reason, whatever attempts are left.

        Raises an exception that must not be caught.
        """
        raise GiveUp(reason)


running: Final[ContextVar[Execution]] = ContextVar("ratus_execution")


def current() -> Execution:
    """The execution in which this is called: within a task function, its hooks and its middleware.

    Raises `RuntimeError` anywhere else.
    """
    try:
        return running.get()
    except LookupError:
        raise RuntimeError(
            "current() is for the code that a worker runs: no task function is executed here"
        ) from None
