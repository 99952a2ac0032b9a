"""No body holds the event loop: between two of its turns only so much is done, whatever the body holds.

Work is counted, not timed: as calls of functions, Python's and C's, each of which is short. What one call of
the walk may look at is bounded by itself, and held here too.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys
from types import FrameType
from typing import Any

import pytest

from benchmarks.adversaries import ADVERSARIES, Adversary
from benchmarks.bodies import prepare, send
from ratus.api import large, walking
from ratus.core.errors import BadRequest, PayloadTooLarge
from ratus.runtime import config
from ratus.runtime.app import build
from ratus.testing import ManualClock

# Large enough for many slices.
SIZE = 160_000
# A call takes some 0.1 to 0.5 us: together ten milliseconds.
CALLS = 40_000


class Counter:
    """Counts calls in each turn of the loop."""

    def __init__(self) -> None:
        self.calls = 0
        self.most = 0

    def __call__(self, frame: FrameType, event: str, argument: Any) -> None:
        if event in ("call", "c_call"):
            self.calls += 1

    async def watch(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.most = max(self.most, self.calls)
            self.calls = 0


async def most_calls(adversary: Adversary) -> int:
    app, service = build(config.parse(["--port", "1", "--chore-interval", "0"], {}), clock=ManualClock())
    await service.start()
    if adversary.method == "PATCH":
        await prepare(app)
    body = adversary.make(SIZE)
    counter = Counter()
    watcher = asyncio.create_task(counter.watch())
    await asyncio.sleep(0)
    before = sys.getprofile()
    sys.setprofile(counter)
    try:
        await send(app, adversary.method, adversary.target, body)
        await asyncio.sleep(0)
    finally:
        sys.setprofile(before)
    watcher.cancel()
    await service.close()
    return counter.most


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=lambda adversary: adversary.name)
def test_a_turn_of_the_loop_is_short(adversary: Adversary) -> None:
    assert asyncio.run(most_calls(adversary)) < CALLS


class Expression:
    """A regular expression that notes how far it looks."""

    def __init__(self, pattern: re.Pattern[bytes], looked: list[int]) -> None:
        self._pattern = pattern
        self._looked = looked

    def match(self, data: bytes, at: int, end: int = sys.maxsize) -> re.Match[bytes] | None:
        found = self._pattern.match(data, at, end)
        assert min(end, len(data)) - at <= walking.AHEAD
        if found is not None:
            self._looked.append(found.end() - at)
        return found


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=lambda adversary: adversary.name)
def test_a_slice_looks_at_few_bytes(adversary: Adversary, monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[int] = []
    for name in ("_SPACE", "_TEXT", "_NAME", "_OPENINGS", "_CLOSINGS"):
        monkeypatch.setattr(walking, name, Expression(getattr(walking, name), looked))
    monkeypatch.setattr("ratus.api.large.SMALL_ITEMS", Expression(walking.SMALL_ITEMS, looked))
    for rule in (walking.JSON, walking.PAYLOAD):
        for expressions in (rule._usual, rule._deepest):
            for name in ("value", "more_items", "more_members"):
                monkeypatch.setattr(expressions, name, Expression(getattr(expressions, name), looked))
    work = large.opened(adversary.make(SIZE), frozenset({"payload", "retry", "topics"}), 10_000)
    most, slices, total = 0, 0, 0
    with contextlib.suppress(BadRequest, PayloadTooLarge):
        while True:
            looked.clear()
            if next(work, work) is work:  # it has ended
                break
            most, slices, total = max(most, sum(looked)), slices + 1, total + sum(looked)
    assert most <= 2 * walking.SLICE
    assert total <= 4 * SIZE
    assert slices >= total // (2 * walking.SLICE)
