"""What `Worker` and `AsyncWorker` have in common: which claims are held, and what becomes of each."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections import deque
from contextlib import suppress
from typing import Final, Generic, Protocol, TypeVar

from ratus.calls.base import BaseCalls
from ratus.calls.delivery import BaseDelivery
from ratus.calls.retrying import Attempts, Repeat
from ratus.calls.steps import Steps, call
from ratus.core.errors import Conflict, NotFound, RatusError
from ratus.worker import log
from ratus.worker.claiming import Claiming
from ratus.worker.commits import BACKLOG, Outcome, note_given_up, outcome_of
from ratus.worker.forks import generation
from ratus.worker.keeping import extension_seconds, is_overdue, put_off
from ratus.worker.options import Options
from ratus.worker.pace import Pace

D = TypeVar("D", bound=BaseDelivery)

INTERRUPT_SECONDS: Final = 1.0
"""Seconds to wait for the response to an interrupted poll; it comes at once, except over slow networks."""

FINISH_SECONDS: Final = 5.0
"""Seconds that the last commits may take after the grace period."""


class Committer(Protocol[D]):
    """Sends the outcomes of a worker's handlers."""

    def put(self, outcome: Outcome[D]) -> None:
        """Have an outcome committed soon. Returns at once."""

    def __len__(self) -> int:
        """How many outcomes wait to be sent."""


class BaseWorker(ABC, Generic[D]):
    """The claims of a worker, from the poll that brought them to the outcome that is committed.

    `_held` has every claim that is neither committed nor released yet, by nonce. Only the code that removes a
    claim from `_held` commits or releases it, so a delivery whose handler returns at the moment it is
    abandoned is committed or released, and never both. `_ready` has the claims that no handler was begun for.
    """

    def __init__(self, client: BaseCalls, options: Options, consumer: str | None) -> None:
        self._client: BaseCalls = client
        self._options = options
        self._pace = Pace(options.concurrency, options.prefetch)
        self._claiming = Claiming(client, options, client.consumer if consumer is None else consumer)
        self._ready: deque[D] = deque()
        self._held: dict[str, D] = {}
        self._generation = generation()

    @property
    @abstractmethod
    def _commits(self) -> Committer[D]:
        """What sends the outcomes of this worker."""

    @abstractmethod
    def _give_up(self, error: BaseException) -> None:
        """End the worker, which cannot go on. `error` is what its `run` then raises."""

    def _is_drained(self) -> bool:
        """Whether the handlers have ended, so that no claim has to be kept any longer."""
        return False

    def _missing(self, running: int) -> int:
        """How many tasks to claim now, while `running` handlers run; 0 if none are to be claimed yet."""
        if len(self._commits) >= BACKLOG:
            return 0
        return min(self._pace.wanted(running, len(self._ready)), self._claiming.batch)

    def _hold(self, deliveries: list[D]) -> None:
        self._held.update({delivery.nonce: delivery for delivery in deliveries})
        self._ready.extend(deliveries)

    def _release(self, delivery: D) -> bool:
        """Release a claim, unless it is committed or released already. Returns whether it did so."""
        if self._held.pop(delivery.nonce, None) is None:
            return False
        self._commits.put(Outcome(delivery, delivery._release_item()))
        return True

    def _release_ready(self) -> None:
        """Give back the claims that no handler was begun for."""
        with suppress(IndexError):
            while True:
                self._release(self._ready.popleft())

    def _release_overdue(self, now: float) -> None:
        """Give back the claims that have waited for a handler for too long."""
        with suppress(IndexError):
            while True:
                delivery = self._ready.popleft()
                if not is_overdue(delivery, now):
                    self._ready.appendleft(delivery)
                    return
                self._pace.stall()
                self._release(delivery)

    def _abandon(self, delivery: D) -> None:
        """Give back the claim of a handler that still runs; the handler sees it by `Delivery.lost`."""
        if self._release(delivery):
            log.warning("task %r did not finish in time and is released", delivery.id)
            delivery._lost = True

    def _pass_over(self, delivery: D, now: float) -> bool:
        """Release a claim that lapsed before its handler was begun. Returns whether it had lapsed.

        That happens when this process was suspended: another consumer may have the task by now.
        """
        if not delivery._lost and now < delivery._expires:
            return False
        log.warning("task %r in %r is not begun: its claim has lapsed", delivery.id, delivery.topic)
        self._release(delivery)
        return True

    def _settle(self, delivery: D) -> None:
        """Commit what a handler has left, unless its claim is committed or released already."""
        if self._held.pop(delivery.nonce, None) is None or delivery._settled:
            return
        if delivery._lost:
            note_given_up(delivery)
        else:
            self._commits.put(outcome_of(delivery))

    def _extend(self, delivery: D) -> Steps[None]:
        """Extend a claim by one attempt; after a failure `due_for_extension` has it tried again."""
        client, timeout = self._client, self._options.timeout
        begun = time.monotonic()
        request = delivery._extend_request(timeout, None)
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        patience = extension_seconds(delivery, timeout, begun, client._request_seconds)
        try:
            promise = yield from call(request, attempts, patience)
        except (Conflict, NotFound) as error:
            # The claim may have been committed while its extension was on its way.
            if delivery.nonce in self._held and not delivery._settled:
                delivery._lost = True
                log.warning("the claim of task %r was lost: %s", delivery.id, error)
        except RatusError as error:
            if self._is_drained():
                return
            if client._closed:
                self._give_up(error)
            put_off(delivery, timeout)
            log.warning("the claim of task %r could not be extended: %s", delivery.id, error)
        else:
            delivery._extended(promise, begun, timeout)
