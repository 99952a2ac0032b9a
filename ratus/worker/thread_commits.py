"""The thread of a worker that commits: collects outcomes for a moment, sends them in batches."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import TypeAlias

from ratus.calls import requests
from ratus.calls.delivery import Delivery
from ratus.calls.retrying import Attempts, Repeat
from ratus.calls.sync_calls import SyncCalls
from ratus.calls.sync_connections import Interrupt
from ratus.core.errors import NotFound, RatusError
from ratus.worker import log
from ratus.worker.commits import (
    FULL,
    LINGER_SECONDS,
    Outcome,
    find_unfit,
    instead,
    is_fatal,
    is_too_much,
    note_lost,
    sort_statuses,
    take_batch,
)
from ratus.worker.keeping import commit_seconds

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
        self._given_up = threading.Event()
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
                self._send(self._sending)
                if not self._given_up.is_set():
                    self._sending = []
                self._on_progress()
            if self._finishing or self._given_up.is_set():
                return

    def _send(self, batch: list[_Outcome]) -> None:
        fenced = [outcome for outcome in batch if not outcome.forced]
        for outcome in batch:
            if outcome.forced:
                self._send_forced(outcome)
        client = self._client
        failures = 0
        # One attempt a call: the pauses between them are ended by `give_up`.
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        while fenced and not self._given_up.is_set():
            request = requests.commit_statuses([outcome.item for outcome in fenced])
            claims = (outcome.delivery for outcome in fenced)
            patience = commit_seconds(claims, time.monotonic(), client._request_seconds)
            try:
                statuses = client._call(request, attempts, self._interrupt, patience)
                done, refused, again = sort_statuses(fenced, statuses)
            except RatusError as error:
                if self._given_up.is_set():
                    return
                if is_too_much(error):
                    self._divide(fenced, error)
                    return
                if is_fatal(error) or client._closed:
                    self._on_fatal(error)
                    self._given_up.set()
                    return
                if failures == 0:
                    log.warning("outcomes cannot be committed, trying again: %s", error)
                failures += 1
                self._pause(failures)
                continue
            for outcome in done:
                outcome.delivery._done()
            for outcome, reason in refused:
                self._examine(outcome, reason, lost_answer=attempts.lost)
            for outcome, reason in find_unfit(fenced, statuses):
                self._replace(outcome, reason)
            fenced = again
            if again:
                failures += 1
                self._pause(failures)

    def _pause(self, failures: int) -> None:
        self._given_up.wait(self._client._backoff.pause(failures))

    def _divide(self, batch: list[_Outcome], error: RatusError) -> None:
        """A batch was refused as a whole: find the commit that is the reason."""
        if len(batch) > 1:
            middle = len(batch) // 2
            self._send(batch[:middle])
            self._send(batch[middle:])
            return
        (outcome,) = batch
        self._replace(outcome, error.message)

    def _replace(self, outcome: _Outcome, reason: str) -> None:
        """One commit was refused for what it holds."""
        other = instead(outcome, reason)
        if other is not None:
            self._send([other])

    def _examine(self, outcome: _Outcome, reason: str, *, lost_answer: bool) -> None:
        """One commit was refused; after a lost answer it may be the second of two that meant the same."""
        delivery = outcome.delivery
        try:
            if lost_answer and delivery._find(self._interrupt) is not None:
                delivery._done()
                return
        except RatusError as error:
            log.warning("what became of task %r could not be found out: %s", delivery.id, error)
        note_lost(delivery, reason)

    def _send_forced(self, outcome: _Outcome) -> None:
        """A commit without a nonce must not be sent twice, so it goes alone."""
        delivery = outcome.delivery
        try:
            delivery._settle(delivery._commit_request(), self._interrupt)
        except NotFound as error:
            note_lost(delivery, error.message)
        except RatusError as error:
            if is_too_much(error):
                self._replace(outcome, error.message)
                return
            log.error("the forced commit of task %r failed: %s", delivery.id, error)
