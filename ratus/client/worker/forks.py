"""What becomes of a forked child that returns from a handler: it ends, since only its parent is the worker.

Without that the child would go on as a worker: with copies of the tasks that its parent holds, on the
parent's event loop, and with none of the other threads.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress


def leave_child(worker_process: int, error: BaseException | None = None) -> None:
    """End this process unless it is that of the worker, as a program ends that was left by `error`."""
    if os.getpid() == worker_process:
        return
    code = 0
    with suppress(BaseException):
        code = _exit_code(error)
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def _exit_code(error: BaseException | None) -> int:
    if error is None:
        return 0
    if isinstance(error, SystemExit):
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        print(error.code, file=sys.stderr)
        return 1
    traceback.print_exception(error)
    return 1
