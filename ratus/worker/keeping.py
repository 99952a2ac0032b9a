"""Which claims are to be extended and how long that may take, and which are given back unbegun."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from ratus.calls.delivery import BaseDelivery
from ratus.calls.sync_connections import MAX_IDLE
from ratus.worker.pace import PATIENCE_SECONDS

D = TypeVar("D", bound=BaseDelivery)

EXTENSIONS: Final = MAX_IDLE + 8
"""Claims that are extended at once: more than there are kept connections that could have died in silence."""

_LEAST_SECONDS: Final = 0.25
"""How long an answer is waited for at the least: a busy machine may take so long."""


def tick_seconds(timeout: float) -> float:
    """How often to look at the claims that are held: several times in the time until one is extended."""
    return min(PATIENCE_SECONDS / 2, timeout / 12)


def due_for_extension(held: Iterable[D], timeout: float, now: float) -> list[D]:
    """The claims to extend: a third of their time has passed, and they are still ours.

    A third leaves time for several more tries before the claim lapses.
    """
    return [
        delivery
        for delivery in held
        if now - delivery._renewed >= timeout / 3 and not delivery._settled and not delivery._lost
    ]


def put_off(delivery: BaseDelivery, timeout: float) -> None:
    """An extension failed: try again after a sixth of the claim's time, not at every tick."""
    delivery._renewed += timeout / 6


def extension_seconds(delivery: BaseDelivery, timeout: float, now: float, most: float) -> float:
    """How long one extension may take: a third of what is left of the claim.

    An extension that hangs then leaves time for the next ones, which are made on fresh connections.
    """
    left = delivery._expires - now
    return min(most, max((left if left > 0 else timeout) / 3, _LEAST_SECONDS))


def commit_seconds(deliveries: Iterable[BaseDelivery], now: float, most: float) -> float:
    """How long one batch of commits may take: half of what is left of the claim that lapses first.

    More than for an extension, since outcomes may be large. Claims that have lapsed already set no limit.
    """
    left = min(
        (delivery._expires - now for delivery in deliveries if delivery._expires > now), default=2 * most
    )
    return min(most, max(left / 2, _LEAST_SECONDS))


def is_overdue(delivery: BaseDelivery, now: float) -> bool:
    """Whether a claimed task has been waiting for a handler for too long."""
    return now - delivery._received >= PATIENCE_SECONDS
