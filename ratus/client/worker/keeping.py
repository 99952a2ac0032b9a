"""Which claims are to be extended, and which given back because nobody gets to them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from ratus.client.delivery import BaseDelivery
from ratus.client.worker.pace import PATIENCE_SECONDS

D = TypeVar("D", bound=BaseDelivery)


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


def is_overdue(delivery: BaseDelivery, now: float) -> bool:
    """Whether a claimed task has been waiting for a handler for too long."""
    return now - delivery._received >= PATIENCE_SECONDS
