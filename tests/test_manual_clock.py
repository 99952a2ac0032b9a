"""The clock for tests moves when it is told to, and calls in order."""

from __future__ import annotations

import asyncio

import pytest

from ratus.core.clock import Clock
from ratus.testing import START, ManualClock

pytestmark = pytest.mark.anyio


def test_it_is_a_clock_that_stands_still() -> None:
    clock: Clock = ManualClock()
    assert clock.now() == clock.now() == START
    assert ManualClock(5).now() == 5


def test_it_calls_in_order_and_stands_at_each_time() -> None:
    clock = ManualClock(0)
    calls: list[tuple[str, int]] = []
    for name, when in (("b", 20), ("c", 20), ("a", 10), ("later", 31)):
        clock.call_at(when, lambda name=name: calls.append((name, clock.now())))  # type: ignore[misc]  # mypy cannot infer a lambda with a default
    clock.advance(30)
    assert calls == [("a", 10), ("b", 20), ("c", 20)]
    assert (clock.now(), clock.pending()) == (30, 1)
    clock.advance(1)
    assert calls[-1] == ("later", 31)
    clock.advance(100)
    assert (len(calls), clock.pending()) == (4, 0)


def test_what_a_call_asks_for_is_called_on_the_same_way() -> None:
    clock = ManualClock(0)
    calls: list[int] = []

    def again() -> None:
        calls.append(clock.now())
        clock.call_at(clock.now() + 10, again)

    clock.call_at(10, again)
    clock.advance(35)
    assert calls == [10, 20, 30]
    assert clock.now() == 35


def test_a_call_that_was_called_off_is_not_made() -> None:
    clock = ManualClock(0)
    calls: list[str] = []
    timer = clock.call_at(10, lambda: calls.append("one"))
    other = clock.call_at(10, lambda: calls.append("other"))
    timer.cancel()
    timer.cancel()
    assert clock.pending() == 1
    clock.advance(10)
    other.cancel()
    assert calls == ["other"]


async def test_setting_the_wall_clock_lets_no_time_pass() -> None:
    clock = ManualClock(0)
    calls: list[str] = []
    clock.call_at(10, lambda: calls.append("wall"))
    clock.call_at_monotonic(20, lambda: calls.append("monotonic"))
    clock.step(1000)
    assert (clock.now(), clock.monotonic(), calls) == (1000, 0, [])
    clock.call_at(1005, lambda: calls.append("later"))
    clock.advance(10)
    assert (clock.now(), clock.monotonic(), calls) == (1010, 10, ["later", "wall"])
    clock.step(-1010)
    clock.advance(10)
    assert (clock.now(), clock.monotonic(), calls) == (10, 20, ["later", "wall", "monotonic"])


async def test_a_time_that_has_come_is_called_in_the_next_turn() -> None:
    clock = ManualClock(10)
    calls: list[str] = []
    clock.call_at(10, lambda: calls.append("now"))
    clock.call_at(5, lambda: calls.append("past"))
    clock.call_at(5, lambda: calls.append("called off")).cancel()
    assert calls == []
    await asyncio.sleep(0)
    assert calls == ["now", "past"]


def test_it_does_not_go_back() -> None:
    clock = ManualClock(10)
    with pytest.raises(ValueError, match="cannot go back"):
        clock.advance(-1)
    assert clock.now() == 10
