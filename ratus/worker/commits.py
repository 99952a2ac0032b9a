"""What goes into a batch of commits, and what the response means for each of them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from ratus.calls.claims import CommitStatus
from ratus.calls.delivery import BaseDelivery
from ratus.calls.failures import describe
from ratus.calls.retrying import ClientClosed
from ratus.core.errors import BadRequest, Forbidden, PayloadTooLarge, RatusError, TransportError, Unauthorized
from ratus.worker import log

D = TypeVar("D", bound=BaseDelivery)

LINGER_SECONDS: Final = 0.003
"""Seconds that the first commit of a batch waits for more: too short to be noticed, enough for a batch."""

FULL: Final = 500
"""Commits after which a batch is sent at once: their own cost is then a hundred times that of the request."""

FULL_BYTES: Final = 1024 * 1024
"""Bytes after which a batch is full: a quarter of the server's default limit."""

BACKLOG: Final = 4 * FULL
"""With so many commits waiting to be sent nothing more is claimed: the server is slower than the handlers."""

_TRANSIENT: Final = frozenset({408, 429, 500, 503})
_UNFIT: Final = frozenset({BadRequest.status, PayloadTooLarge.status})


@dataclass(slots=True)
class Outcome(Generic[D]):
    """A commit that the worker is to send; `item` is its JSON."""

    delivery: D
    item: msgspec.Raw
    forced: bool = False
    """Whether the commit carries no nonce, and so must not be sent twice."""
    last_resort: bool = False
    """Whether it reports that another commit of the same delivery was refused."""


def outcome_of(delivery: D) -> Outcome[D]:
    """The commit of what a handler has set; if JSON cannot hold that, a failure that says so."""
    try:
        return Outcome(delivery, delivery._item(), forced=not delivery._nonce)
    except BaseException as error:
        note_failure(delivery, error)
        return Outcome(delivery, delivery._item())


def note_failure(delivery: BaseDelivery, error: BaseException) -> None:
    """Log a failure. Set it on the delivery in place of all that was set, unless that is settled already."""
    if not delivery._settled:
        text = describe(error)
        delivery._start_over()._set("error", text)
    log.warning("task %r in %r failed", delivery.id, delivery.topic, error=error)


def is_fatal(error: RatusError) -> bool:
    """Whether a worker cannot go on, since its next request would fail in the same way."""
    return isinstance(error, BadRequest | Unauthorized | Forbidden | ClientClosed)


def is_too_much(error: RatusError) -> bool:
    """Whether a batch was refused as a whole because of one of its commits, or because of its size.

    A proxy's limit of size counts as well: the proxy would refuse the same batch again.
    """
    return isinstance(error, BadRequest) or error.status == PayloadTooLarge.status


def take_batch(waiting: deque[Outcome[D]]) -> list[Outcome[D]]:
    """Remove from the front of `waiting` what goes into one batch: at least one commit, if there is any."""
    batch: list[Outcome[D]] = []
    size = 0
    while waiting and len(batch) < FULL:
        size += len(bytes(waiting[0].item))
        if batch and size > FULL_BYTES:
            break
        batch.append(waiting.popleft())
    return batch


def sort_statuses(
    batch: Sequence[Outcome[D]], statuses: Sequence[CommitStatus]
) -> tuple[list[Outcome[D]], list[tuple[Outcome[D], str]], list[Outcome[D]]]:
    """The commits of a batch that are done; those that are refused, and why; those to be tried again.

    Commits that were refused for what they hold are in none of the three lists; see `find_unfit`. Raises
    `TransportError` when the response does not fit the batch.
    """
    if len(batch) != len(statuses):
        raise TransportError(f"{len(batch)} commits were answered by {len(statuses)} results")
    done: list[Outcome[D]] = []
    refused: list[tuple[Outcome[D], str]] = []
    again: list[Outcome[D]] = []
    for outcome, status in zip(batch, statuses, strict=True):
        if status.status == 200:
            done.append(outcome)
        elif status.status in _TRANSIENT:
            again.append(outcome)
        elif status.status not in _UNFIT:
            refused.append((outcome, _reason(status)))
    return done, refused, again


def find_unfit(batch: Sequence[Outcome[D]], statuses: Sequence[CommitStatus]) -> list[tuple[Outcome[D], str]]:
    """The commits that were refused for what they hold, and why. Their claims are still held."""
    pairs = zip(batch, statuses, strict=True)
    return [(outcome, _reason(status)) for outcome, status in pairs if status.status in _UNFIT]


def _reason(status: CommitStatus) -> str:
    return str((status.error or {}).get("message", status.status))


def instead(outcome: Outcome[D], reason: str) -> Outcome[D] | None:
    """A failure to commit in place of what the server does not take, such as a result that is too large.

    Without it the task would be run again and again, with the same outcome. `None` when the refused commit is
    such a failure already.
    """
    log.error("the outcome of task %r was refused: %s", outcome.delivery.id, reason)
    if outcome.last_resort:
        return None
    delivery = outcome.delivery._start_over().fail(f"the outcome could not be committed: {reason}")
    return Outcome(delivery, delivery._item(), last_resort=True)


def note_given_up(delivery: BaseDelivery) -> None:
    """Log that a handler ended after it saw that its claim was lost, so that nothing is committed."""
    log.warning(
        "task %r in %r was given up, since its claim was lost; it runs again", delivery.id, delivery.topic
    )


def note_lost(delivery: BaseDelivery, reason: str) -> None:
    """Mark a delivery as lost, whose outcome arrived after its claim had ended; log the refusal."""
    delivery._lost = True
    log.warning(
        "the outcome of task %r in %r was refused (%s); its claim was lost, and it may run again",
        delivery.id,
        delivery.topic,
        reason,
    )
