"""Why lanes are closed, and when a claim that is refused may be tried again."""

from __future__ import annotations

import pytest

from ratus.core.turns import Closing, PerLabel, Rate, Reason, claimed, closing_of_lane, next_turn, retry_at

NOW = 1_000
SOON, LATER = NOW + 10, NOW + 20
ORDERED = PerLabel("l", ordered=True)
ALL = PerLabel("l", concurrency=1, rate=Rate(1, 10), ordered=True)


def closed(
    per: PerLabel, value: str | None = "v", active: int = 0, waits: int | None = None, held: int = 0
) -> Closing | None:
    allowed = 0 if per.rate is None else claimed(per.rate, 0, NOW)
    return closing_of_lane(per, value, active, waits, allowed, held, NOW)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (closed(ORDERED), None),
        (closed(ORDERED, active=1), Closing(Reason.ORDERED)),
        (closed(ORDERED, waits=SOON), Closing(Reason.ORDERED, SOON)),
        (closed(ORDERED, waits=SOON, held=LATER), Closing(Reason.ORDERED, SOON)),
        (closed(ORDERED, held=LATER), Closing(Reason.HOLD, LATER)),
        # Tasks without the label are not ordered.
        (closed(ORDERED, None, active=1, waits=SOON), None),
        (closed(ORDERED, None, held=LATER), Closing(Reason.HOLD, LATER)),
        # The order of tasks matters only where it is asked for.
        (closed(PerLabel("l", concurrency=2), active=1, waits=SOON), None),
        # A place that has to become free comes first.
        (closed(ALL, active=1, waits=SOON), Closing(Reason.CONCURRENCY)),
        (closed(ALL, waits=LATER), Closing(Reason.ORDERED, LATER)),
        (closed(ALL), Closing(Reason.RATE, NOW + 10)),
    ],
)
def test_why_a_lane_is_closed(found: Closing | None, expected: Closing | None) -> None:
    assert found == expected


@pytest.mark.parametrize("reason", Reason)
def test_only_a_rate_and_a_hold_say_when_to_try_again(reason: Reason) -> None:
    expected = SOON if reason in (Reason.RATE, Reason.HOLD) else None
    assert retry_at(Closing(reason, SOON)) == expected


def test_the_next_turn_is_that_of_the_first_value_with_the_least_standing() -> None:
    standing = {"a": (1, 1), "b": (0, 3), "c": (0, 2), "d": (0, 2)}
    items = ["a1", "b1", "d1", "c1", "d2"]
    assert next_turn(items, lambda item: item[0], standing.__getitem__) == ["d1", "d2"]
    assert next_turn([], lambda item: item[0], standing.__getitem__) == []
