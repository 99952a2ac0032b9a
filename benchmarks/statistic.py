"""Medians and percentiles."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence

median = statistics.median

CURVE = (0.0, 50.0, 75.0, 90.0, 95.0, 98.0, 99.0, 99.5, 99.8, 99.9, 99.95, 99.99, 100.0)
"""The percentiles of which a latency distribution is drawn."""


def percentile(ordered: Sequence[float], percent: float) -> float:
    """The smallest of these sorted values that is not less than this share of them."""
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def middle_round(values: Iterable[float]) -> int:
    """The number of the round whose value is the median (the lower one of two)."""
    ranked = sorted(enumerate(values), key=lambda pair: pair[1])
    return ranked[(len(ranked) - 1) // 2][0]
