"""The thread of a worker that commits: collects outcomes for a moment, sends them in batches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, TypeAlias

from ratus.calls.delivery import Delivery
from ratus.calls.steps import Pause, Step, run
from ratus.calls.sync_calls import SyncCalls
from ratus.calls.sync_connections import Interrupt
from ratus.worker import log
from ratus.worker.commits import FULL, LINGER_SECONDS, Outcome, take_batch
from ratus.worker.sending import BatchSender

_Outcome: TypeAlias = Outcome[Delivery]


class ThreadCommitter:
    """Commits what handlers leave, for as long as it takes; a server that is away is waited for.

    `on_progress` is called after each batch, `on_fatal` when the server will never take what it is given,
    and `on_end` when nothing more is committed.
    """

    def __init__(
        self,
        client: SyncCalls,
        *,
        on_progress: Callable[[], None],
        on_fatal: Callable[[BaseException], None],
        on_end: Callable[[], None],
    ) -> None:
        self._client = client
        self._given_up = threading.Event()
        self._sender: BatchSender[Delivery] = BatchSender(
            client, is_ended=self._given_up.is_set, on_fatal=self._end
        )
        self._on_progress = on_progress
        self._on_fatal = on_fatal
        self._on_end = on_end
        self._waiting: deque[_Outcome] = deque()
        self._sending: list[_Outcome] = []
        self._some = threading.Event()
        self._full = threading.Event()
        self._interrupt = Interrupt()
        self._finishing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="ratus-commits", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether it still commits."""
        return not self._ended

    def __len__(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def put(self, outcome: _Outcome) -> None:
        """Commit this soon."""
        self._waiting.append(outcome)
        # Both are looked at first: setting an event takes a lock, and nearly always it is set already.
        if not self._some.is_set():
            self._some.set()
        if len(self._waiting) >= FULL and not self._full.is_set():
            self._full.set()

    def finish(self) -> None:
        """Send what is left, then end."""
        self._finishing = True
        self._full.set()
        self._some.set()

    def give_up(self, seconds: float) -> None:
        """End now, or after `seconds` if a request hangs; what is not sent lapses at its deadline."""
        self._given_up.set()
        self._interrupt.cut()
        self._thread.join(seconds)
        if left := len(self._waiting) + len(self._sending):
            log.warning("stopped with %d outcomes uncommitted; their tasks will run again", left)

    def _run(self) -> None:
        try:
            self._commit_all()
        except BaseException as error:
            # A worker that does not commit must not go on claiming.
            self._on_fatal(error)
        finally:
            self._ended = True
            self._on_end()

    def _commit_all(self) -> None:
        while True:
            self._some.wait()
            if not self._finishing:
                self._full.wait(LINGER_SECONDS)
            self._some.clear()
            self._full.clear()
            while self._waiting and not self._given_up.is_set():
                self._sending = take_batch(self._waiting)
                run(self._sender.send(self._sending), self._carry_out)
                if not self._given_up.is_set():
                    self._sending = []
                self._on_progress()
            if self._finishing or self._given_up.is_set():
                return

    def _carry_out(self, step: Step) -> Any:
        """A step of the sender. Pauses and requests end when the committer gives up."""
        if isinstance(step, Pause):
            return self._given_up.wait(step.seconds)
        return self._client._call(step.request, step.attempts, self._interrupt, step.patience)

    def _end(self, error: BaseException) -> None:
        self._on_fatal(error)
        self._given_up.set()
