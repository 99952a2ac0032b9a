"""How a benchmark is described: what it asks, how it measures, how long that takes."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

Row = dict[str, Any]
Rows = list[Row]
Tables = dict[str, Rows]
"""Tables by name; the rows of one have the same columns."""


class Scale(enum.Enum):
    """How much is measured."""

    SMOKE = "smoke"
    """As little as shows that the benchmark works. Its figures mean nothing."""
    QUICK = "quick"
    """The questions that have bars, in under five minutes together."""
    FULL = "full"
    """Everything that docs/performance.md shows, in under three quarters of an hour together."""


@dataclass(frozen=True)
class Benchmark:
    """One question, and how it is answered."""

    name: str
    question: str
    measure: Callable[[Scale], Tables]
    """Measures at this scale. Raises `Unavailable` when something that it needs is missing."""
    seconds: Mapping[Scale, int]
    """About how long it takes; it is ended after several times that. Without QUICK it is not in that set."""
    needs: tuple[str, ...] = ()
    """Programs beside Python, by the Debian package that brings them."""
    unprinted: frozenset[str] = field(default_factory=frozenset)
    """Tables that are for plots: written as CSV, too long to be printed."""


class Unavailable(Exception):
    """Something that a benchmark needs is not on this machine; the message says what, and how to get it."""
