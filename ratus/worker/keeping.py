"""Which claims are to be extended and how long that may take, and which are given back unbegun."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, TypeVar

from ratus.calls.delivery import BaseDelivery
from ratus.calls.sync_connections import MAX_IDLE
from ratus.worker.pace import PATIENCE_SECONDS

D = TypeVar("D", bound=BaseDelivery)

EXTENSIONS: Final = MAX_IDLE + 8
"""Extensions under way at once at most: more than there are idle connections that may have died unnoticed."""

_LEAST_SECONDS: Final = 0.25
"""Seconds to wait for a response at the least: a busy machine may take so long."""


def tick_seconds(timeout: float) -> float:
    """Seconds between two looks at the held claims: several looks before a claim is due for extension."""
    return min(PATIENCE_SECONDS / 2, timeout / 12)


def due_for_extension(held: Iterable[D], timeout: float, now: float) -> list[D]:
    """The claims to extend: a third of their time has passed, and they are neither settled nor lost.

    A third leaves time for several more tries before the claim lapses.
    """
    return [
        delivery
        for delivery in held
        if now - delivery._renewed >= timeout / 3 and not delivery._settled and not delivery._lost
    ]


def put_off(delivery: BaseDelivery, timeout: float) -> None:
    """Have a failed extension tried again after a sixth of the claim's time, not at every tick."""
    delivery._renewed += timeout / 6


def extension_seconds(delivery: BaseDelivery, timeout: float, now: float, most: float) -> float:
    """Seconds that one extension may take: a third of what is left of the claim, but no more than `most`.

    An extension that hangs then leaves time for the next ones, which are made on fresh connections.
    """
    left = delivery._expires - now
    return min(most, max((left if left > 0 else timeout) / 3, _LEAST_SECONDS))


def commit_seconds(deliveries: Iterable[BaseDelivery], now: float, most: float) -> float:
    """Seconds that one batch of commits may take: half of what is left of the claim that lapses first.

    No more than `most`, but more than for an extension, since outcomes may be large. Claims that have lapsed
    already set no limit.
    """
    left = min(
        (delivery._expires - now for delivery in deliveries if delivery._expires > now), default=2 * most
    )
    return min(most, max(left / 2, _LEAST_SECONDS))


def is_overdue(delivery: BaseDelivery, now: float) -> bool:
    """Whether a claimed task has been waiting for a handler for too long."""
    return now - delivery._received >= PATIENCE_SECONDS
