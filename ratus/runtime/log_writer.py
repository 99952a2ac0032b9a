"""Writes log lines to a file descriptor from a thread of its own: no caller ever waits for a reader."""

from __future__ import annotations

import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Final
from weakref import WeakMethod

# Bytes of lines that may wait for a slow reader: some 20,000 lines.
QUEUE_BYTES: Final = 4 * 1024 * 1024

# Lines are joined up to what a pipe takes in one piece, so that other processes that write to the same pipe
# cannot cut one (Linux: 4,096 bytes). While the program is busy, the thread gets the interpreter's lock back
# after 5 ms: when many lines wait, it takes larger pieces to keep up. A longer line is written alone.
ATOMIC_BYTES: Final = select.PIPE_BUF
LARGEST_PIECE: Final = 65_536

# How long a flush waits for a reader that reads nothing, and for one that does read, at the most.
STANDSTILL_SECONDS: Final = 1.0
FLUSH_SECONDS: Final = 5.0


class LogWriter:
    """A bounded queue of lines (``capacity`` is in bytes) and the thread that writes them, in order.

    Once the queue is full, lines are dropped and counted until half of it is written. The line that
    ``report`` makes of their number takes their place. A line that the system refuses to write (a closed
    pipe, a full disk) is lost: there is nowhere left to report it.
    """

    def __init__(self, descriptor: int, report: Callable[[int], bytes], capacity: int = QUEUE_BYTES) -> None:
        self.dropped = 0
        """How many lines were dropped so far because the queue was full."""
        self._descriptor = descriptor
        self._report = report
        self._capacity = capacity
        self._lines: deque[bytes] = deque()
        # Bytes that are queued or being written.
        self._size = 0
        self._unreported = 0
        # Grows with every write; a flush sees by it whether the reader reads.
        self._writes = 0
        self._stuck = False
        self._closed = False
        self._thread: threading.Thread | None = None
        # Reentrant: a signal handler may log in the middle of another log call of its thread.
        self._changed = threading.Condition(threading.RLock())
        after_fork = WeakMethod(self._after_fork)
        os.register_at_fork(after_in_child=lambda: (method := after_fork()) and method())

    def put(self, line: bytes) -> None:
        """Queue a line that ends with a line break. Never waits."""
        with self._changed:
            if self._closed or not self._running():
                self._write_now(line)
            elif self._size and self._size + len(line) > self._capacity // (2 if self._unreported else 1):
                self.dropped += 1
                self._unreported += 1
            else:
                self._report_dropped()
                self._append(line)
                self._changed.notify_all()

    def flush(self) -> None:
        """Return once all queued lines are written, or nothing could be written for ``STANDSTILL_SECONDS``,
        or after ``FLUSH_SECONDS``. Does not wait a second time for a reader that still reads nothing."""
        with self._changed:
            began = moved = time.monotonic()
            writes = self._writes
            while self._size or self._unreported:
                now = time.monotonic()
                if self._writes != writes:
                    writes, moved, self._stuck = self._writes, now, False
                left = min(began + FLUSH_SECONDS, moved + STANDSTILL_SECONDS) - now
                if self._stuck or left <= 0:
                    self._stuck = True
                    return
                self._changed.wait(left)

    def close(self) -> None:
        """Flush, then end the thread. A line put later is written only where that takes no waiting."""
        self.flush()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _append(self, line: bytes) -> None:
        self._lines.append(line)
        self._size += len(line)

    def _report_dropped(self) -> None:
        """Queue the line that says how many lines are missing here, if any are."""
        if self._unreported:
            count, self._unreported = self._unreported, 0
            self._append(self._report(count))

    def _after_fork(self) -> None:
        """Start afresh in a forked process: the queued lines and the thread are the parent's, and the lock
        may have been held at the fork."""
        self._changed = threading.Condition(threading.RLock())
        self._lines.clear()
        self._size = self._unreported = 0
        self._thread = None

    def _running(self) -> bool:
        """Whether the thread runs; the first line of a process starts it."""
        if self._thread is None or not self._thread.is_alive():
            thread = threading.Thread(target=self._run, name="ratus-log", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # no further thread can be had, or the interpreter is about to end
                return False
            self._thread = thread
        return True

    def _run(self) -> None:
        # The main thread handles signals: one that is delivered to this thread would not wake it.
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        batch = b""
        while True:
            with self._changed:
                self._size -= len(batch)
                if batch:
                    self._stuck = False
                    self._changed.notify_all()
                while not self._lines:
                    self._report_dropped()
                    if self._lines:
                        break
                    if self._closed:
                        return
                    self._changed.wait()
                batch = self._next()
            self._write(batch)

    def _next(self) -> bytes:
        """The lines to be written next, which stay counted until they are written."""
        limit = LARGEST_PIECE if self._size > LARGEST_PIECE else ATOMIC_BYTES
        batch = [self._lines.popleft()]
        size = len(batch[0])
        while self._lines and size + len(self._lines[0]) <= limit:
            batch.append(self._lines.popleft())
            size += len(batch[-1])
        return b"".join(batch)

    def _write(self, rest: bytes) -> None:
        """Write all of it, however long that takes; never raises."""
        try:
            while rest:
                try:
                    rest = rest[os.write(self._descriptor, rest) :]
                    self._writes += 1
                except BlockingIOError:
                    # Another program that shares the pipe has made it non-blocking.
                    poll = select.poll()
                    poll.register(self._descriptor, select.POLLOUT)
                    poll.poll()
        except OSError:
            pass

    def _write_now(self, line: bytes) -> None:
        """Write a line without the thread, which has ended or cannot be started, if that takes no waiting."""
        try:
            poll = select.poll()
            poll.register(self._descriptor, select.POLLOUT)
            if not self._stuck and len(line) <= ATOMIC_BYTES and poll.poll(0):
                os.write(self._descriptor, line)
        except OSError:
            pass
