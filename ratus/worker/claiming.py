"""What a worker's poll asks for, and what follows from the response."""

from __future__ import annotations

from typing import Final

from ratus.calls import requests
from ratus.calls.base import BaseCalls
from ratus.calls.bounds import is_wait_refused, shorter_wait
from ratus.calls.claims import Claimed
from ratus.calls.requests import Request
from ratus.calls.retrying import Repeat
from ratus.calls.transport import LONGEST_WAIT
from ratus.core.errors import BadRequest, RatusError
from ratus.worker import log
from ratus.worker.commits import is_fatal
from ratus.worker.options import Options
from ratus.worker.pace import BATCH

EMPTY_PAUSE: Final = 0.5
"""Seconds between polls where the server does not wait, or was not asked to."""


class Claiming:
    """Requests of the polls of one worker, one after the other, and the pauses between them."""

    def __init__(self, client: BaseCalls, options: Options, consumer: str) -> None:
        self._client = client
        self._options = options
        self._consumer = consumer
        self._wait = options.wait if client._interruptible else min(options.wait, LONGEST_WAIT)
        self._failures = 0
        self.batch = BATCH
        """Tasks in one claim at most, as far as the server's refusals are known."""

    def request(self, limit: int) -> Request[list[Claimed]]:
        """A poll for up to `limit` tasks."""
        return requests.poll(
            self._options.topics,
            limit=limit,
            consumer=self._consumer,
            timeout=self._options.timeout,
            deadline=None,
            wait=self._wait or None,
            choice=self._options.choice,
            repeat=Repeat.NEVER,
        )

    def succeeded(self, claims: int, seconds: float) -> float:
        """A poll brought so many claims after `seconds`. How many seconds to pause before the next one."""
        if self._failures:
            log.info("claiming tasks again")
            self._failures = 0
        # An empty response that came early: the server does not wait, and must not be asked without end.
        is_early = not self._wait or seconds < self._wait / 2
        return EMPTY_PAUSE if not claims and is_early else 0.0

    def failed(self, error: RatusError, limit: int) -> float:
        """A poll for up to `limit` tasks failed. How many seconds to pause before the next one.

        A refusal of what was asked for makes the next poll ask for less, without a pause. Raises the error
        when the next poll would fail as well.
        """
        if is_wait_refused(error) and self._wait:
            self._wait = shorter_wait(self._wait)
            return 0.0
        if isinstance(error, BadRequest) and limit > 1:
            # The server may be configured to hand out fewer at once.
            self.batch = limit // 2
            return 0.0
        if is_fatal(error) or self._client._closed:
            raise error
        if self._failures == 0:
            log.warning("cannot claim tasks, trying again: %s", error)
        self._failures += 1
        return self._client._backoff.pause(self._failures)
