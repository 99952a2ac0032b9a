"""Which calls are repeated, and when.

A call fails in one of three ways: it surely was not carried out, the server refused it, or its answer was
lost and it may have been carried out. The request's `Repeat` says after which of these it may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from random import random
from typing import Final

from ratus.core.errors import RatusError, ServiceUnavailable, TransportError

FIRST_PAUSE: Final = 0.1
"""Seconds before the first repetition: a server that is restarted takes a few tenths."""

LONGEST_PAUSE: Final = 5.0
"""Seconds between two attempts at most, however long the server is away."""

_NOT_YET: Final = (408, 429)
"""Statuses of refusals before anything was carried out; the server may accept the same request later."""


class ClientClosed(TransportError):
    """The client was closed: it sends no more requests."""

    def __init__(self) -> None:
        super().__init__("the client is closed", sent=False)


class Repeat(Enum):
    """How a request may be repeated."""

    ALWAYS = "always"
    """The request changes nothing, or its nonce or id makes sure that a repetition changes nothing more: by
    then the task is claimed anew, is committed, or exists already."""

    CLAIM = "claim"
    """A claim whose response was lost holds until its deadline: the request is repeated after a 503, or where
    it surely was not carried out, but not after a lost response."""

    UNSENT = "unsent"
    """A repetition could undo what happened after the first attempt: repeated only if that surely was not
    carried out."""

    NEVER = "never"
    """The caller wants to know how things are now, or repeats the request itself."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Pauses that grow, so that a server is not overrun by its clients the moment it is back."""

    random: Callable[[], float] = random

    def pause(self, failures: int) -> float:
        """Seconds to wait after so many failures in a row (1 is the first): half of the pause is random."""
        longest: float = min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(failures - 1, 16))
        return longest * (1 - self.random() / 2)


@dataclass(slots=True)
class Attempts:
    """The attempts of one call so far, and whether another one follows."""

    repeat: Repeat
    limit: int
    backoff: Backoff
    failures: int = 0
    lost: bool = False
    """Whether an attempt may have been carried out although its answer did not come."""
    begun: float = 0.0
    """When the latest attempt began, by the monotonic clock."""

    def pause(self, error: RatusError) -> float | None:
        """Seconds until the next attempt, or `None` when there is to be none."""
        self.failures += 1
        if isinstance(error, ClientClosed):
            again = False
        elif isinstance(error, TransportError):
            again = self.repeat is Repeat.ALWAYS or (not error.sent and self.repeat is not Repeat.NEVER)
            self.lost = self.lost or error.sent
        elif isinstance(error, ServiceUnavailable):
            again = self.repeat in (Repeat.ALWAYS, Repeat.CLAIM)
            # A database that did not respond to the server in time may have carried the call out.
            self.lost = True
        elif error.status in _NOT_YET:
            again = self.repeat is not Repeat.NEVER
        else:
            again = False
        if not again or self.failures > self.limit:
            return None
        return self.backoff.pause(self.failures)
