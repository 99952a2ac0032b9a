"""The thread of a `Worker` that commits: it collects outcomes of handlers for a moment, and sends them in
batches.

`threads` has the worker, `coroutine_commits` the same for the asynchronous one, `sending` what becomes of a
batch.
"""

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
    """Commits the outcomes that `put` is given. While the server is away it tries again, until `give_up`.

    All three are called in the committing thread: `on_progress` after each batch; `on_fatal` with an error
    after which no batch can be committed, such as a refused token; `on_end` when the thread ends.
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
            client, is_ended=self._given_up.is_set, on_fatal=self._fail
        )
        self._on_progress = on_progress
        self._on_fatal = on_fatal
        self._on_end = on_end
        # Outcomes in the order of arrival, and the batch that was taken from them.
        self._waiting: deque[_Outcome] = deque()
        self._sending: list[_Outcome] = []
        # Set when an outcome waits, and when a whole batch of them does.
        self._some = threading.Event()
        self._full = threading.Event()
        self._interrupt = Interrupt()
        self._finishing = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="ratus-commits", daemon=True)

    @property
    def alive(self) -> bool:
        """Whether outcomes are still committed; true before `start` as well."""
        return not self._ended

    def __len__(self) -> int:
        """How many outcomes wait to be sent."""
        return len(self._waiting)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def put(self, outcome: _Outcome) -> None:
        """Have an outcome committed with the next batch. Returns at once; from any thread."""
        self._waiting.append(outcome)
        # `is_set` comes first because `set` takes a lock, and nearly always the event is set already.
        if not self._some.is_set():
            self._some.set()
        if len(self._waiting) >= FULL and not self._full.is_set():
            self._full.set()

    def finish(self) -> None:
        """Have the thread end once what waits is sent, without waiting for a batch to fill. Returns at
        once."""
        self._finishing = True
        self._full.set()
        self._some.set()

    def give_up(self, seconds: float) -> None:
        """End now: cut off the request under way, and wait up to `seconds` for the thread to end.

        The claims of outcomes that were not sent lapse at their deadlines; their number is logged.
        """
        self._given_up.set()
        self._interrupt.cut()
        self._thread.join(seconds)
        if left := len(self._waiting) + len(self._sending):
            log.warning("stopped with %d outcomes uncommitted; their tasks will run again", left)

    def _run(self) -> None:
        try:
            self._commit_all()
        except BaseException as error:
            # The worker has to end: without commits, every task that it goes on claiming would run again.
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
        """Carry out a step of the sender: a pause or a request. `give_up` ends both."""
        if isinstance(step, Pause):
            return self._given_up.wait(step.seconds)
        return self._client._call(step.request, step.attempts, self._interrupt, step.patience)

    def _fail(self, error: BaseException) -> None:
        self._on_fatal(error)
        self._given_up.set()
