"""The bound on a stop: a thread that ends the process when stopping takes too long.

A thread, because the event loop itself may be what hangs: an engine may block it, and a signal handler is all
that runs then.
"""

from __future__ import annotations

import _thread
import logging
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

logger = logging.getLogger("ratus")

# Seconds that a process may take to write its last log lines, whatever its log handler: a little longer than
# Ratus's own log handler waits for its reader.
_LAST_WORDS_SECONDS = 6.0


class StopDeadline:
    """Ends the process with exit code 1 when a stop takes longer than ``seconds``; 0 is no bound.

    ``describe`` is asked, in the thread, what the stop is waiting for.
    """

    def __init__(
        self, seconds: float, describe: Callable[[], str], end: Callable[[int], object] | None = None
    ) -> None:
        self._seconds = seconds
        self._describe = describe
        self._end = end or quit_process
        # A signal handler may interrupt any code, itself included, so it may only call what is reentrant.
        self._orders: SimpleQueue[bool] = SimpleQueue()
        if seconds > 0:
            threading.Thread(target=self._watch, name="ratus-stop-deadline", daemon=True).start()

    def begin(self) -> None:
        """Start the countdown, because the stop begins. Has no effect when it runs already."""
        self._orders.put(True)

    def cancel(self) -> None:
        """End the countdown, because everything has stopped or no stop will come: the process may live on."""
        self._orders.put(False)

    def _watch(self) -> None:
        """Wait for ``begin``, then for ``cancel`` or the end of the time. Runs in the thread."""
        if not self._orders.get():
            return
        until = time.monotonic() + self._seconds
        try:
            # More signals may come, and are no reason to wait any longer.
            while self._orders.get(timeout=max(0.0, until - time.monotonic())):
                pass
        except Empty:
            # In a thread of its own: the reader of the log may be what hangs.
            log = threading.Thread(target=self._log, daemon=True)
            log.start()
            log.join(_LAST_WORDS_SECONDS)
            self._end(1)

    def _log(self) -> None:
        logger.error(
            "stopping took longer than %g s (--shutdown-timeout) and is cut off; what hangs: %s",
            self._seconds,
            self._describe(),
        )


def quit_process(code: int) -> None:
    """End the process at once, after flushing its log and output, for which it has a few seconds."""
    # Not a `threading.Thread`: the code that a signal interrupted may hold the locks of `threading`.
    _thread.start_new_thread(_exit_later, (code,))
    for flush in (logging.shutdown, sys.stdout.flush, sys.stderr.flush):
        # The signal may have come in the middle of a write to the same stream.
        with suppress(Exception):
            flush()
    os._exit(code)


def _exit_later(code: int) -> None:
    time.sleep(_LAST_WORDS_SECONDS)
    os._exit(code)
