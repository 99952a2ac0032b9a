"""Processes for functions that use the processor for long, or may have to be killed: `executor="process"`.

The worker claims, extends and commits as ever; a thread of it hands the claimed task to a process, and waits
for what is to be committed. A process runs one task after the other, by the same `Runner`. It is killed when
the time limit of a function is over, or its claim is lost; another one then takes its place.
"""

from __future__ import annotations

import math
import multiprocessing
import signal
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from multiprocessing.connection import Connection
from typing import Any, Final, TypeAlias

import msgspec

from ratus.app.functions import TaskFunction
from ratus.app.runner import UNKNOWN_SECONDS, Runner
from ratus.calls.claims import Claimed
from ratus.calls.delivery import BaseDelivery
from ratus.worker import log

_TICK_SECONDS: Final = 1.0
"""Seconds between two looks whether the claim is lost; a result or the time limit ends the wait at once."""

_END_SECONDS: Final = 5.0
"""Seconds that a process may take to end which has nothing to do."""

_READY: Final = b"ready"

Server: TypeAlias = tuple[str | None, str | None]
"""The URL and the token of a server."""


class _Changes(msgspec.Struct, omit_defaults=True):
    """What a process has set on its delivery."""

    state: int | None = None
    error: str | None = None
    defer: str | None = None
    result: msgspec.Raw = msgspec.Raw(b"")


class ProcessPool:
    """Runs tasks in processes, as many as there are tasks at a time. Threads share it.

    `function` is a task function by which the processes find the app, `server` is where they push to, and
    `begin`, which has to be picklable, is called first in each. Processes are started when they are needed,
    and kept.
    """

    def __init__(
        self,
        function: TaskFunction[..., Any, Any],
        server: Server,
        begin: Callable[[], None] | None = None,
    ) -> None:
        self._function = function
        self._server = server
        self._begin = begin
        self._lock = threading.Lock()
        self._idle: list[_Process] = []
        self._busy: set[_Process] = set()
        self._closed = False

    def run(self, delivery: BaseDelivery, time_limit: float | None) -> bool:
        """Run a claimed task, and set on the delivery what is to be committed. Returns whether it failed.

        Does not raise what the function raised.
        """
        process = self._take()
        keep = False
        try:
            if not process.is_ready():
                if self._closed:  # the worker has given the task back already
                    return False
                log.error("the process for task %r could not start; its log says why", delivery.id)
                delivery.retry(UNKNOWN_SECONDS)
                return False
            keep, failed = self._hand_over(process, delivery, time_limit)
        finally:
            self._put_back(process, keep=keep)
        return failed

    def close(self) -> None:
        """End the processes; what they run is killed."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            busy = list(self._busy)
        for process in busy:
            process.kill()
        for process in idle:
            process.end()

    def _hand_over(
        self, process: _Process, delivery: BaseDelivery, time_limit: float | None
    ) -> tuple[bool, bool]:
        """Returns whether the process can be used again, and whether the task has failed."""
        until = math.inf if time_limit is None else time.monotonic() + time_limit
        try:
            process.connection.send_bytes(msgspec.json.encode(delivery._claimed))
            while not process.connection.poll(max(0.0, min(_TICK_SECONDS, until - time.monotonic()))):
                if delivery.lost:
                    process.kill()
                    return False, True
                if time.monotonic() >= until:
                    process.kill()
                    text = f"the time limit of {time_limit:g} s is over"
                    log.warning("task %r in %r is killed: %s", delivery.id, delivery.topic, text)
                    delivery.reset().fail(text)
                    return False, True
            changes = msgspec.json.decode(process.connection.recv_bytes(), type=_Changes)
        except (EOFError, OSError):
            text = f"the process that ran it has ended {process.how_it_ended()}"
            log.warning("task %r in %r failed: %s", delivery.id, delivery.topic, text)
            delivery.reset().fail(text)
            return False, True
        delivery.reset()
        for name in ("state", "error", "defer", "result"):
            value = getattr(changes, name)
            if value is not None and value != _NO_RESULT:
                delivery._set(name, value)
        return True, changes.error is not None

    def _take(self) -> _Process:
        with self._lock:
            if self._closed:
                raise RuntimeError("the worker has ended")
            process = self._idle.pop() if self._idle else None
            if process is None:
                process = _Process(self._function, self._server, self._begin)
            self._busy.add(process)
        return process

    def _put_back(self, process: _Process, *, keep: bool) -> None:
        with self._lock:
            self._busy.discard(process)
            keep = keep and not self._closed
            if keep:
                self._idle.append(process)
        if not keep:
            process.kill()


_NO_RESULT: Final = msgspec.Raw(b"")


class _Process:
    """A process, and the pipe to it."""

    def __init__(
        self, function: TaskFunction[..., Any, Any], server: Server, begin: Callable[[], None] | None
    ) -> None:
        # A fork would copy locks that other threads hold.
        context = multiprocessing.get_context("spawn")
        self.connection, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, function, server, begin), name="ratus-process", daemon=True
        )
        self._process.start()
        theirs.close()
        self._ready = False

    def is_ready(self) -> bool:
        """Wait until the process can take tasks. Returns false if it has ended before."""
        if not self._ready:
            with suppress(EOFError, OSError):
                self._ready = self.connection.recv_bytes() == _READY
        return self._ready

    def kill(self) -> None:
        """End the process, whatever it does."""
        self._process.kill()
        self.end()

    def end(self) -> None:
        """Have the process end after what it does, and wait for that."""
        self.connection.close()
        self._process.join(_END_SECONDS)
        if self._process.is_alive():
            self._process.kill()
            self._process.join(_END_SECONDS)

    def how_it_ended(self) -> str:
        """By which signal or with which exit code the process has ended."""
        self._process.join(_END_SECONDS)
        code = self._process.exitcode
        if code is not None and code < 0:
            return f"by {signal.Signals(-code).name}"
        return f"with exit code {code}"


def _serve(
    connection: Connection,
    function: TaskFunction[..., Any, Any],
    server: Server,
    begin: Callable[[], None] | None,
) -> None:
    """Run tasks in this process until the worker closes the pipe."""
    # Signals are for the worker, which drains: one that reaches the whole process group must not end this.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    if begin is not None:
        begin()
    app: Any = function._app
    app._connection.move_to(*server)
    with ExitStack() as stack:
        for lifespan in app._lifespans:
            if not lifespan.is_async:
                stack.enter_context(lifespan.enter())
        runner = Runner(app.functions, [each for each in app._middleware if not each.is_async])
        with suppress(EOFError, OSError):
            connection.send_bytes(_READY)
            while True:
                claimed = msgspec.json.decode(connection.recv_bytes(), type=Claimed)
                delivery = BaseDelivery(claimed, math.inf, None)
                runner.run(delivery)
                connection.send_bytes(msgspec.json.encode(delivery._changes or {}))
