"""SIGTERM and Ctrl-C for all workers of this process: one registry, which restores the program's handlers.

The handlers are Python's own (`signal.signal`), also on an event loop. A handler that a program gave to its
loop (`loop.add_signal_handler`) is called by way of the loop's wake-up descriptor, and so goes on being
called beside them. Signals only reach the main thread, so only workers that run there are registered, and
nothing here needs a lock.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Final

_NUMBERS: Final = (signal.SIGTERM, signal.SIGINT)

_listeners: Final[list[Callable[[str], None]]] = []
_before: Final[dict[signal.Signals, Any]] = {}


@contextlib.contextmanager
def listen(listener: Callable[[str], None]) -> Iterator[None]:
    """Have `listener` called with the name of each signal that arrives within the `with` block.

    The listeners of other workers are called as well. In a thread other than the main one, `listener` is
    never called.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    process = os.getpid()
    if not _listeners:
        _install()
    _listeners.append(listener)
    try:
        yield
    finally:
        if process == os.getpid():
            _listeners.remove(listener)
            if not _listeners:
                _restore()


def _install() -> None:
    for number in _NUMBERS:
        before = signal.getsignal(number)
        if before is not None:  # else it was not set by Python, and could not be set back
            _before[number] = before
            signal.signal(number, _on_signal)


def _restore() -> None:
    for number, before in _before.items():
        # A program that has set its own handler meanwhile keeps it.
        if signal.getsignal(number) is _on_signal:
            signal.signal(number, before)
    _before.clear()


def _on_signal(number: int, frame: FrameType | None) -> None:
    for listener in tuple(_listeners):
        listener(signal.Signals(number).name)


class _Forking(threading.local):
    """Which signals were blocked in this thread before it began to fork."""

    blocked: set[signal.Signals | int] | None = None


_forking: Final = _Forking()


def _before_fork() -> None:
    """Block signals until the child handles them itself: one that came earlier would be lost."""
    if _listeners:
        _forking.blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _NUMBERS)


def _after_fork() -> None:
    if _forking.blocked is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, _forking.blocked)
        _forking.blocked = None


def _in_child() -> None:
    """A forked child is no worker: signals end it, and do not wake up the loop of its parent."""
    if _listeners:
        _listeners.clear()
        _before.clear()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGINT, signal.default_int_handler)
    _after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_in_child)
