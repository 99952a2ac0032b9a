"""Listeners of values: functions of the program that a worker calls with each change, in a thread each."""

from __future__ import annotations

import inspect
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

from ratus.calls.steps import WatchedValues, changed_values
from ratus.calls.sync_connections import Interrupt
from ratus.client import Client
from ratus.core.errors import RatusError
from ratus.worker import log

_AGAIN_SECONDS: Final = 5.0
"""Seconds before values are asked for again after a refusal: the token may be allowed to soon."""

_END_SECONDS: Final = 5.0
"""Seconds that a listener may take to end when its worker stops."""


@dataclass(frozen=True, slots=True)
class Listener:
    """A function, and the values that it is called with."""

    pattern: str
    function: Callable[[str, Any], Any]

    @classmethod
    def of(cls, pattern: str, function: Callable[[str, Any], Any]) -> Listener:
        """Raises `ValueError` for a pattern that is not valid, `TypeError` for what is no plain function."""
        if not isinstance(pattern, str) or not pattern or "*" in pattern[:-1]:
            raise ValueError(
                f"listener: {pattern!r} is no pattern; give the name of a value, or the beginning of names "
                "and a star at the end, such as feature/*"
            )
        if not callable(function) or inspect.iscoroutinefunction(function):
            raise TypeError("listener: give a plain function (def), which is called in a thread")
        return cls(pattern, function)

    def watched(self) -> WatchedValues:
        """What to ask the server for."""
        if self.pattern.endswith("*"):
            return WatchedValues(None, self.pattern[:-1], 0)
        return WatchedValues(self.pattern, None, 0)


class Listening:
    """Calls listeners while its `with` block runs."""

    def __init__(self, listeners: Sequence[Listener], client: Client) -> None:
        self._client = client
        self._ended = threading.Event()
        self._threads = [
            (threading.Thread(target=self._listen, args=each, name="ratus-listener", daemon=True), each[1])
            for each in ((listener, Interrupt()) for listener in listeners)
        ]

    def __enter__(self) -> Self:
        for thread, _ in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for _, interrupt in self._threads:
            interrupt.cut()
        for thread, _ in self._threads:
            thread.join(_END_SECONDS)

    def _listen(self, listener: Listener, interrupt: Interrupt) -> None:
        watched = listener.watched()
        while not self._ended.is_set():
            try:
                values = self._client._run(changed_values(watched, self._client._bounds), interrupt)
            except RatusError as error:
                if not self._ended.is_set():
                    log.warning("the values %s cannot be listened to: %s", listener.pattern, error)
                self._ended.wait(_AGAIN_SECONDS)
                continue
            for value in values:
                if self._ended.is_set():
                    return
                try:
                    listener.function(value.name, None if value.deleted else value.value)
                except BaseException as error:
                    log.warning("the listener of %s raised an exception", listener.pattern, error=error)
                watched.seen(value)
