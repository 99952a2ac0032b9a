"""What becomes of a forked child that returns from a handler: it ends, since only its parent is the worker.

Without that the child would go on as a worker: with copies of the tasks that its parent holds, on the
parent's event loop, and with none of the other threads.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from contextlib import suppress
from typing import Final

_PRINT_SECONDS: Final = 1.0
"""Seconds that a child may take to print its error and to flush its streams."""

_generation = 0


def generation() -> int:
    """How many forks lead to this process. Unlike `os.getpid`, this needs no system call."""
    return _generation


def leave_child(worker: int, error: BaseException | None = None) -> None:
    """End this process, if it is a forked child of the worker's, as an uncaught `error` ends a program.

    `worker` is the `generation` of the worker's process.
    """
    if worker == _generation:
        return
    code = 0
    with suppress(BaseException):
        code = _exit_code(error)
        # Printing may hang: a thread of the parent may have held the lock of a stream, which no thread of the
        # child releases.
        last_words = threading.Thread(target=_print, args=(error,), daemon=True)
        last_words.start()
        last_words.join(_PRINT_SECONDS)
    os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        return (error.code or 0) & 0xFF
    return 0 if error is None else 1


def _print(error: BaseException | None) -> None:
    with suppress(BaseException):
        if isinstance(error, SystemExit):
            if error.code is not None and not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        elif error is not None:
            traceback.print_exception(error)
    for stream in (sys.stdout, sys.stderr):
        with suppress(BaseException):
            stream.flush()


def _count() -> None:
    global _generation
    _generation += 1


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_count)
