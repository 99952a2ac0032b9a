"""What callers give: durations, times, names and payloads, checked and turned into what travels."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

import msgspec

from ratus.durations import format_duration, parse_duration
from ratus.models import Commit
from ratus.times import format_time, parse_time

DurationLike: TypeAlias = str | int | float | timedelta
"""A length of time: text such as `"30s"` or `"1h30m"`, a number of seconds, or a `timedelta`."""

TimeLike: TypeAlias = datetime | str
"""An instant: an aware `datetime`, or RFC 3339 text such as `"2026-01-31T12:00:00Z"`."""

Topics: TypeAlias = str | Sequence[str]
"""One topic, or several in order of preference."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(value: DurationLike, name: str) -> int:
    """A duration in microseconds. Raises `ValueError` or `TypeError` that names the argument."""
    try:
        if isinstance(value, str):
            return parse_duration(value)
        if isinstance(value, timedelta):
            return value // _MICROSECOND
        if isinstance(value, int | float) and not isinstance(value, bool):
            return round(value * 1_000_000)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from None
    raise TypeError(
        f"{name}: give a duration as text such as '30s', as seconds or as a timedelta, "
        f"not {type(value).__name__}"
    )


def seconds(value: DurationLike, name: str) -> float:
    """A duration in seconds. Raises as `microseconds` does."""
    return microseconds(value, name) / 1_000_000


def duration_text(value: DurationLike, name: str) -> str:
    """A duration as it travels. Raises as `microseconds` does."""
    return format_duration(microseconds(value, name))


def time_text(value: TimeLike, name: str) -> str:
    """An instant as it travels. Raises `ValueError` or `TypeError` that names the argument."""
    try:
        if isinstance(value, str):
            return format_time(parse_time(value))
        if isinstance(value, datetime):
            if value.utcoffset() is None:
                raise ValueError(
                    "a naive datetime could be any instant; give one with a time zone, such as "
                    "datetime.now(UTC)"
                )
            return format_time((value - _EPOCH) // _MICROSECOND)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{name}: {error}") from None
    raise TypeError(
        f"{name}: give a time as an aware datetime or as RFC 3339 text, not {type(value).__name__}"
    )


def topic_names(topics: Topics) -> tuple[str, ...]:
    """The topics as a tuple. Raises `ValueError` when there is none."""
    names = (topics,) if isinstance(topics, str) else tuple(topics)
    if not names or not all(names):
        raise ValueError("topics: name one topic or more, none of them empty")
    return names


def json_bytes(value: Any) -> bytes:
    """A JSON document. Raises `ValueError` for text that UTF-8 cannot write."""
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError as error:
        raise ValueError(f"a text holds a lone surrogate, which UTF-8 cannot write ({error})") from None
    except RecursionError:
        raise ValueError("the value is nested too deeply; at most 170 levels are taken") from None


def checked_json(value: Any, name: str) -> Any:
    """The value, when it is JSON through and through. Raises `ValueError`."""
    checked = Commit(payload=value).payload
    try:
        json_bytes(checked)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return checked
