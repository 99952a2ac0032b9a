"""Several worker processes as one: starts them, passes signals on, replaces one that was killed, and all of
them when the program's files change.

The processes are those of the same command, each in a process group of its own, so that Ctrl-C in a terminal
reaches them only by the supervisor. Each holds the reading end of a pipe whose writing end the supervisor
holds: when the supervisor is killed, the pipe ends, and its workers drain.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from types import FrameType
from typing import Any, Final

_FIRST_PAUSE: Final = 0.5
_LONGEST_PAUSE: Final = 30.0
"""Seconds before a process that was killed is replaced; longer each time, if it was killed soon."""

_STEADY_SECONDS: Final = 60.0
"""A process that has run for so many seconds was well, so that its end does not make the pause longer."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_STOPPED: Final = (0, -signal.SIGTERM)
"""How a process ends that was stopped: in order, or by the signal where that came while it started."""

_CHANGED: Final = "changed"

_logger: Final = logging.getLogger("ratus.worker")


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    begun: float


class Supervisor:
    """Runs `count` processes until a signal ends them.

    `command` makes the command line of a process of its number and the descriptor of its end of the pipe.
    `changes`, where it is given, is iterated over in a thread: after each of its items, the processes drain
    and are started anew.
    """

    def __init__(
        self,
        count: int,
        command: Callable[[int, int], Sequence[str]],
        changes: Iterable[object] | None = None,
    ) -> None:
        self._count = count
        self._command = command
        self._changes = changes
        self._reloading: set[int] = set()
        self._children: dict[int, _Child] = {}
        self._failures = 0
        # Takes signals, the numbers of processes that have ended, and `_CHANGED`.
        self._events: SimpleQueue[signal.Signals | int | str] = SimpleQueue()
        self._stopping = False
        self._code = 0
        # When the processes that were killed are replaced, by their numbers.
        self._due: dict[int, float] = {}

    def run(self) -> int:
        """Return 0 once all processes were stopped by a signal; else the exit code of one that has failed.

        A process that ends by itself with an error ends the others, since they would fail in the same way;
        with `changes`, it is started anew after the next one.
        """
        reading, writing = os.pipe()
        try:
            with self._signals():
                if self._changes is not None:
                    threading.Thread(target=self._watch, name="ratus-changes", daemon=True).start()
                for number in range(self._count):
                    self._start(number, reading)
                while self._goes_on():
                    event = self._next()
                    if event is None:
                        for number in [each for each, when in self._due.items() if when <= time.monotonic()]:
                            self._start(number, reading)
                    elif isinstance(event, signal.Signals):
                        self._stop()
                    elif isinstance(event, int):
                        self._note_end(event, reading)
                    elif not self._stopping:
                        self._reload(reading)
        finally:
            os.close(writing)
            os.close(reading)
        return self._code

    def _goes_on(self) -> bool:
        if self._children:
            return True
        return not self._stopping and (bool(self._due) or self._changes is not None)

    def _note_end(self, number: int, reading: int) -> None:
        """Decide what follows from the end of a process."""
        ended = self._children.pop(number)
        status = ended.process.returncode
        if number in self._reloading and not self._stopping:
            self._reloading.discard(number)
            self._start(number, reading)
        elif status <= 0 and not self._stopping:
            self._due[number] = time.monotonic() + self._pause(ended, status)
        elif status not in _STOPPED:
            if self._changes is not None and not self._stopping:
                _logger.error("a worker process has failed; it starts again after the next change of a file")
                return
            self._code = self._code or max(status, 1)
            if not self._stopping:
                self._stop()

    def _reload(self, reading: int) -> None:
        """Have the processes drain, to be started anew then; those that do not run are started now."""
        _logger.info("files have changed; the worker drains and starts again")
        for number in range(self._count):
            if number in self._children:
                if number not in self._reloading:
                    self._reloading.add(number)
                    self._children[number].process.send_signal(signal.SIGTERM)
            else:
                self._start(number, reading)

    def _watch(self) -> None:
        for _ in self._changes or ():
            self._events.put(_CHANGED)

    def _next(self) -> signal.Signals | int | str | None:
        """The next event, or `None` when a process is due to be started."""
        if not self._due or self._stopping:
            return self._events.get()
        try:
            return self._events.get(timeout=max(0.0, min(self._due.values()) - time.monotonic()))
        except Empty:
            return None

    def _start(self, number: int, reading: int) -> None:
        self._due.pop(number, None)
        process = subprocess.Popen(  # noqa: S603 - the command line of this very command
            self._command(number, reading), pass_fds=(reading,), process_group=0
        )
        self._children[number] = _Child(process, time.monotonic())
        threading.Thread(target=self._wait, args=(number, process), daemon=True).start()

    def _wait(self, number: int, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        self._events.put(number)

    def _pause(self, ended: _Child, status: int) -> float:
        """Seconds until a process that was killed is replaced."""
        if time.monotonic() - ended.begun >= _STEADY_SECONDS:
            self._failures = 0
        pause: float = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        _logger.warning(
            "the worker process %d has ended%s; another one starts in %g s",
            ended.process.pid,
            f" by {signal.Signals(-status).name}" if status else "",
            pause,
        )
        return pause

    def _stop(self) -> None:
        """Pass a signal on: the first has the processes drain, a further one hurries them."""
        self._stopping = True
        for child in self._children.values():
            child.process.send_signal(signal.SIGTERM)

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        before: dict[signal.Signals, Any] = {}

        def note(number: int, frame: FrameType | None) -> None:
            self._events.put(signal.Signals(number))

        for number in _SIGNALS:
            before[number] = signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def stop_with_parent(descriptor: int, stop: Callable[[], None]) -> None:
    """In a worker process: call `stop` when the supervisor at the other end of the pipe has ended."""

    def wait() -> None:
        os.read(descriptor, 1)
        stop()

    threading.Thread(target=wait, name="ratus-parent", daemon=True).start()
