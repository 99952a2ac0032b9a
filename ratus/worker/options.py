"""The settings of a worker, checked."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from ratus.calls.delivery import AsyncDelivery, Delivery
from ratus.calls.inputs import DurationLike, LabelValue, Order, Topics, choice_members, seconds, topic_names

Handler: TypeAlias = Callable[[Delivery], Any]
"""What runs a task: when it returns, the delivery is committed; when it raises, the task has failed."""

AsyncHandler: TypeAlias = Callable[[AsyncDelivery], Awaitable[Any]]
"""As `Handler`, a coroutine function."""

DEFAULT_PREFETCH: Final = 1_000
"""Tasks claimed ahead at most; the server's default for one claim."""

MIN_TIMEOUT: Final = 0.1
"""Seconds: a shorter claim could not be extended over a network before it lapses."""


@dataclass(frozen=True, slots=True)
class Options:
    """The checked settings of a worker; durations in seconds."""

    topics: tuple[str, ...]
    concurrency: int
    timeout: float
    wait: float
    grace: float
    prefetch: int
    choice: Mapping[str, Any]
    """What polls choose, as members of their requests."""

    @classmethod
    def check(
        cls,
        topics: Topics,
        *,
        concurrency: int,
        timeout: DurationLike,
        wait: DurationLike,
        grace: DurationLike,
        prefetch: int,
        order: Order | None,
        where: Mapping[str, LabelValue] | None,
        prefer: str | Sequence[str] | None,
    ) -> Options:
        """The settings of these arguments. Raises `ValueError` or `TypeError`, which names the argument."""
        if concurrency < 1:
            raise ValueError(f"concurrency: at least one task runs at a time, not {concurrency}")
        if prefetch < 0:
            raise ValueError(f"prefetch: it must not be negative, as {prefetch} is")
        options = cls(
            topic_names(topics),
            concurrency,
            seconds(timeout, "timeout"),
            seconds(wait, "wait"),
            seconds(grace, "grace"),
            prefetch,
            choice_members(order, where, prefer),
        )
        if options.timeout < MIN_TIMEOUT:
            raise ValueError(f"timeout: a claim of less than {MIN_TIMEOUT:g} s cannot be kept")
        for name in ("wait", "grace"):
            if getattr(options, name) < 0:
                raise ValueError(f"{name}: it must not be negative")
        return options
