"""How a batch of commits is sent until each of them has a result, as steps (see `ratus.calls.steps`)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from ratus.calls import requests
from ratus.calls.base import BaseCalls
from ratus.calls.delivery import BaseDelivery
from ratus.calls.retrying import Attempts, Repeat
from ratus.calls.steps import Pause, Steps, call
from ratus.core.errors import NotFound, RatusError
from ratus.worker import log
from ratus.worker.commits import Outcome, find_unfit, instead, is_fatal, is_too_much, note_lost, sort_statuses
from ratus.worker.keeping import commit_seconds

D = TypeVar("D", bound=BaseDelivery)


class BatchSender(Generic[D]):
    """Sends batches of commits. While the server is away it tries again.

    `on_fatal` is called with an error after which no batch can be committed. Once `is_ended` returns true,
    nothing more is sent.
    """

    def __init__(
        self,
        client: BaseCalls,
        *,
        is_ended: Callable[[], bool],
        on_fatal: Callable[[BaseException], None],
    ) -> None:
        self._client = client
        self._is_ended = is_ended
        self._on_fatal = on_fatal

    def send(self, batch: Sequence[Outcome[D]]) -> Steps[None]:
        """Send a batch until each commit is done, or its claim is known to be lost."""
        fenced = [outcome for outcome in batch if not outcome.forced]
        for outcome in batch:
            if outcome.forced:
                yield from self._send_forced(outcome)
        client = self._client
        failures = 0
        # One attempt a call: the pauses between them are steps, which a worker that stops cuts short.
        attempts = Attempts(Repeat.NEVER, 0, client._backoff)
        while fenced and not self._is_ended():
            request = requests.commit_statuses([outcome.item for outcome in fenced])
            claims = (outcome.delivery for outcome in fenced)
            patience = commit_seconds(claims, time.monotonic(), client._request_seconds)
            try:
                statuses = yield from call(request, attempts, patience)
                done, refused, again = sort_statuses(fenced, statuses)
            except RatusError as error:
                if self._is_ended():
                    return
                if is_too_much(error):
                    yield from self._divide(fenced, error)
                    return
                if is_fatal(error) or client._closed:
                    self._on_fatal(error)
                    return
                if failures == 0:
                    log.warning("outcomes cannot be committed, trying again: %s", error)
                failures += 1
                yield Pause(client._backoff.pause(failures))
                continue
            for outcome in done:
                outcome.delivery._done()
            for outcome, reason in refused:
                yield from self._examine(outcome, reason, lost_answer=attempts.lost)
            for outcome, reason in find_unfit(fenced, statuses):
                yield from self._replace(outcome, reason)
            fenced = again
            if again:
                failures += 1
                yield Pause(client._backoff.pause(failures))

    def _divide(self, batch: list[Outcome[D]], error: RatusError) -> Steps[None]:
        """Find the commit for which a batch was refused as a whole, by sending the batch in halves."""
        if len(batch) > 1:
            middle = len(batch) // 2
            yield from self.send(batch[:middle])
            yield from self.send(batch[middle:])
            return
        (outcome,) = batch
        yield from self._replace(outcome, error.message)

    def _replace(self, outcome: Outcome[D], reason: str) -> Steps[None]:
        """Commit a failure in place of a commit that was refused for what it holds."""
        other = instead(outcome, reason)
        if other is not None:
            yield from self.send([other])

    def _examine(self, outcome: Outcome[D], reason: str, *, lost_answer: bool) -> Steps[None]:
        """Note a commit as refused, unless an attempt with a lost response has carried it out."""
        delivery = outcome.delivery
        try:
            if lost_answer and (yield from delivery._find()) is not None:
                delivery._done()
                return
        except RatusError as error:
            log.warning("what became of task %r could not be found out: %s", delivery.id, error)
        note_lost(delivery, reason)

    def _send_forced(self, outcome: Outcome[D]) -> Steps[None]:
        """Send a commit without a nonce, which must not be sent twice and therefore is in no batch."""
        delivery = outcome.delivery
        try:
            yield from delivery._settle(self._client, delivery._commit_request())
        except NotFound as error:
            note_lost(delivery, error.message)
        except RatusError as error:
            if is_too_much(error):
                yield from self._replace(outcome, error.message)
                return
            log.error("the forced commit of task %r failed: %s", delivery.id, error)
