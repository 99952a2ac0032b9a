"""What goes into a batch of commits, and what its answer means for each of them."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import msgspec

from ratus.client.claims import CommitStatus
from ratus.client.delivery import BaseDelivery
from ratus.errors import BadRequest, Forbidden, PayloadTooLarge, RatusError, TransportError, Unauthorized

D = TypeVar("D", bound=BaseDelivery)

LINGER_SECONDS: Final = 0.003
"""How long the first commit of a batch waits for more: less than anybody notices, enough for a batch."""

FULL: Final = 500
"""Commits after which a batch is sent at once: their own cost is then a hundred times that of the request."""

FULL_BYTES: Final = 1024 * 1024
"""Bytes after which a batch is full: a quarter of the server's default limit."""

BACKLOG: Final = 4 * FULL
"""With so many commits waiting to be sent nothing more is claimed: the server is slower than the handlers."""

_TRANSIENT: Final = frozenset({408, 429, 500, 503})

logger: Final = logging.getLogger("ratus.client")


@dataclass(frozen=True, slots=True)
class Outcome(Generic[D]):
    """What is to be said of a delivery: the commit as it travels, and whether it reports a refused commit."""

    delivery: D
    item: msgspec.Raw
    last_resort: bool = False


def is_hopeless(error: RatusError) -> bool:
    """Whether a worker cannot go on: what the server says now, it will say again."""
    return isinstance(error, BadRequest | Unauthorized | Forbidden)


def is_too_much(error: RatusError) -> bool:
    """Whether one commit of a batch, or its size, is the reason for the refusal of the whole."""
    return isinstance(error, BadRequest | PayloadTooLarge)


def take_batch(waiting: deque[Outcome[D]]) -> list[Outcome[D]]:
    """Take from the front what goes into one batch; at least one commit, where there is any."""
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
    """The commits of a batch that are done, that are refused and why, and that are to be tried again.

    Raises `TransportError` when the answer does not fit the batch.
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
        else:
            refused.append((outcome, str((status.error or {}).get("message", status.status))))
    return done, refused, again


def instead(outcome: Outcome[D], error: RatusError) -> Outcome[D] | None:
    """A failure to commit in place of what the server does not take, such as a result that is too large.

    Without it the task would be run again and again, with the same outcome. `None` when that is what was
    refused already.
    """
    if outcome.last_resort:
        return None
    delivery = outcome.delivery.reset().fail(f"the outcome could not be committed: {error.message}")
    return Outcome(delivery, delivery._item(), last_resort=True)


def note_lost(delivery: BaseDelivery, reason: str) -> None:
    """The claim went to somebody else before its outcome arrived."""
    delivery._lost = True
    logger.warning(
        "the outcome of task %r in %r was refused (%s); its claim was lost, and it may run again",
        delivery.id,
        delivery.topic,
        reason,
    )
