"""Several worker processes as one: starts them, passes signals on, and replaces one that was killed.

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
from collections.abc import Callable, Iterator, Sequence
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

_logger: Final = logging.getLogger("ratus.worker")


@dataclass
class _Child:
    process: subprocess.Popen[bytes]
    begun: float


class Supervisor:
    """Runs `count` processes until a signal ends them.

    `command` makes the command line of a process of its number and the descriptor of its end of the pipe.
    """

    def __init__(self, count: int, command: Callable[[int, int], Sequence[str]]) -> None:
        self._count = count
        self._command = command
        self._children: dict[int, _Child] = {}
        self._failures = 0
        # Takes names of signals, and the numbers of processes that have ended.
        self._events: SimpleQueue[signal.Signals | int] = SimpleQueue()
        self._stopping = False

    def run(self) -> int:
        """Return 0 once all processes were stopped by a signal; else the exit code of one that has failed.

        A process that ends by itself with an error ends the others, since they would fail in the same way.
        """
        code = 0
        reading, writing = os.pipe()
        try:
            with self._signals():
                for number in range(self._count):
                    self._start(number, reading)
                due: dict[int, float] = {}
                while self._children or (due and not self._stopping):
                    event = self._next(due)
                    if event is None:
                        for number in [each for each, when in due.items() if when <= time.monotonic()]:
                            del due[number]
                            self._start(number, reading)
                    elif isinstance(event, signal.Signals):
                        self._stop()
                    else:
                        ended = self._children.pop(event)
                        status = ended.process.returncode
                        if status <= 0 and not self._stopping:
                            due[event] = time.monotonic() + self._pause(ended, status)
                        elif status not in _STOPPED:
                            code = code or max(status, 1)
                            if not self._stopping:
                                self._stop()
        finally:
            os.close(writing)
            os.close(reading)
        return code

    def _next(self, due: dict[int, float]) -> signal.Signals | int | None:
        """The next event, or `None` when a process is due to be started."""
        if not due or self._stopping:
            return self._events.get()
        try:
            return self._events.get(timeout=max(0.0, min(due.values()) - time.monotonic()))
        except Empty:
            return None

    def _start(self, number: int, reading: int) -> None:
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
