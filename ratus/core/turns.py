"""Limits and turns: when a topic or a value of its label is closed, and which value goes next.

A **lane** is the tasks of a topic that have the same (first) value of a label; the tasks without that label
are a lane, too, whose value is ``None``. The topic as a whole is limited in the same way as a lane.

A **limit** closes a topic or a lane:

- *concurrency*: while so many of its tasks are active, nothing beside them. Whatever ends the active state
  frees a place.
- *rate*: until the time in ``allowed``, by the generic cell rate algorithm (GCRA): each claim moves that time
  on by ``period / count``, and claims may be made up to ``burst - 1`` such intervals ahead of it.
- *hold*: until the time in ``held``, which a consumer sets when a third party refuses it.
- *ordered* (lanes only): while a task of it is active, or the first by creation is not due.

**Turns**: of the lanes with a due task of the highest priority, the one with the fewest active tasks goes
first; among equals the one that was served longest ago; among equals the one whose task stands first in line.
A lane is *served* when a task of it is claimed, and a new lane counts as served when its first task came in.

Nothing here does I/O or reads a clock. Times are microseconds.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from enum import Enum
from typing import Final, TypeAlias, TypeVar

from msgspec import Struct

FIRST_TASKS: Final = 256
"""Due tasks of the chosen value among which the next name of ``prefer`` is decided."""

WHERE_TASKS: Final = 1000
"""Tasks that match ``where`` on another label than that of ``per``, and are looked at for an open lane."""


MAX_PERIOD: Final = 366 * 24 * 3600 * 1_000_000
"""The longest period of a rate, a year, so that the times of a rate stay times that can be written."""

MAX_HOLD: Final = 24 * 3600 * 1_000_000
"""The longest hold: a consumer that errs closes its topic for a day at most."""


class Rate(Struct, frozen=True, gc=False):
    """At most ``count`` claims a ``period`` (microseconds), evenly spread; ``burst`` of them are saved up."""

    count: int
    period: int
    burst: int = 1


def check_rate(rate: Rate) -> None:
    """Raise `ValueError` for a burst that is larger than what a period allows."""
    if rate.burst > rate.count:
        raise ValueError(f"burst: {rate.burst} is not from 1 to {rate.count}, the count")


class PerLabel(Struct, frozen=True, gc=False):
    """The limits of each value of a label. ``ordered``: its tasks one after the other, by creation."""

    label: str
    concurrency: int | None = None
    rate: Rate | None = None
    ordered: bool = False


class Limits(Struct, frozen=True, gc=False):
    """How much of a topic may be claimed; ``None``: as much as is due."""

    concurrency: int | None = None
    rate: Rate | None = None
    per: PerLabel | None = None


class Reason(Enum):
    """Why a topic or a lane hands out nothing."""

    PAUSED = "paused"
    CONCURRENCY = "concurrency"
    ORDERED = "ordered"
    RATE = "rate"
    HOLD = "hold"
    BUILDING = "building"


CLOSES_A_TOPIC: Final = (Reason.PAUSED, Reason.CONCURRENCY, Reason.RATE, Reason.HOLD, Reason.BUILDING)
"""Why a topic as a whole may be closed."""

CLOSES_A_LANE: Final = (Reason.CONCURRENCY, Reason.ORDERED, Reason.RATE, Reason.HOLD)
"""Why a lane may be closed."""


class Closing(Struct, frozen=True, gc=False):
    """Why a topic or a lane is closed, and when it opens again where that is known."""

    reason: Reason
    reopens: int | None = None


Bound: TypeAlias = Limits | PerLabel
"""What bounds a topic or each lane: it has ``concurrency`` and ``rate``."""


def interval(rate: Rate) -> int:
    """Microseconds between two claims, rounded up so that no window ever holds one too many."""
    return -(-rate.period // rate.count)


def bounded(rate: Rate, allowed: int, now: int) -> int:
    """The lane's time, not further ahead than a whole burst takes.

    It is further ahead where the clock was set back, or the rate was changed. An engine that sees the clock
    set back stores what this gives, since the time would otherwise stay ahead of ``now`` all the while.
    """
    return min(allowed, now + rate.burst * interval(rate))


def allowed_from(rate: Rate, allowed: int, now: int) -> int:
    """When the next claim may be made, at or before ``now`` if at once.

    ``allowed`` is the lane's time (see `claimed`), 0 for a lane that was never claimed from; it counts as far
    as it is `bounded`.
    """
    return bounded(rate, allowed, now) - (rate.burst - 1) * interval(rate)


def claimed(rate: Rate, allowed: int, now: int) -> int:
    """The lane's new time after a claim, allowed or forced. It says nothing any more once it has come."""
    return max(now, bounded(rate, allowed, now)) + interval(rate)


def closing(bound: Bound | None, active: int, allowed: int, held: int, now: int) -> Closing | None:
    """Why a topic or a lane is closed at ``now``; ``None``: it is open.

    ``active``: how many of its tasks are active. ``allowed`` and ``held``: its times of rate and hold.
    """
    if bound is not None and bound.concurrency is not None and active >= bound.concurrency:
        return Closing(Reason.CONCURRENCY)
    rate_at = 0
    if bound is not None and bound.rate is not None:
        rate_at = allowed_from(bound.rate, allowed, now)
    if held > now and held >= rate_at:
        return Closing(Reason.HOLD, held)
    if rate_at > now:
        return Closing(Reason.RATE, rate_at)
    return None


def closing_of_lane(
    per: PerLabel, value: str | None, active: int, waits: int | None, allowed: int, held: int, now: int
) -> Closing | None:
    """Why a lane by the label of ``per`` is closed at ``now``: as `closing`, or by the order of its tasks.

    ``waits``: when the first of its pending tasks by creation falls due; ``None``: it is due, or missing.
    """
    found = closing(per, active, allowed, held, now)
    if not per.ordered or value is None or (found is not None and found.reason is Reason.CONCURRENCY):
        return found
    if active:
        return Closing(Reason.ORDERED)
    return found if waits is None else Closing(Reason.ORDERED, waits)


def retry_at(closing: Closing) -> int | None:
    """When a claim that is refused for this may be tried again; ``None``: it is neither a rate nor a hold."""
    return closing.reopens if closing.reason in (Reason.RATE, Reason.HOLD) else None


Item = TypeVar("Item")
Value = TypeVar("Value", bound=Hashable)


def next_turn(
    items: Iterable[Item],
    value_of: Callable[[Item], Value],
    standing: Callable[[Value], tuple[int, int]],
) -> list[Item]:
    """The items of the value whose turn it is, in their order. ``items`` are in line; empty: none.

    ``value_of`` gives an item's value; ``standing`` a value's active tasks and when it was served.
    """
    by_value: dict[Value, list[Item]] = {}
    for item in items:
        by_value.setdefault(value_of(item), []).append(item)
    if not by_value:
        return []
    # `min` takes the first among equals, and values are in the order of their first item.
    return by_value[min(by_value, key=standing)]


def names_in_turn(per: PerLabel | None, prefer: Sequence[str]) -> tuple[str, ...]:
    """The labels by which values take turns, the deciding one first: that of ``per``, then the preferred."""
    if per is None:
        return tuple(prefer)
    return (per.label, *(name for name in prefer if name != per.label))
