"""What callers give: durations, times, names and payloads, checked and turned into what travels."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias, TypeVar

import msgspec

from ratus.core.durations import format_duration, parse_duration
from ratus.core.models import WireModel
from ratus.core.models.fields import DurationLike as DurationLike
from ratus.core.models.fields import TimeLike as TimeLike
from ratus.core.models.json_values import convert, to_json
from ratus.core.times import format_time, parse_time

Model = TypeVar("Model", bound=WireModel)

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


def checked(value: object, kind: type[Model]) -> Model:
    """The value, when it is of this kind. Raises `TypeError` that says how one is made."""
    if isinstance(value, kind):
        return value
    name = kind.__name__
    hint = f"; {name}(**members) makes one of a dict" if isinstance(value, Mapping) else ""
    raise TypeError(f"give a {name}, not a {type(value).__name__}{hint}")


def several(values: Iterable[Model], kind: type[Model]) -> Iterable[Model]:
    """The values, when they can be several. Raises `TypeError` for a single one."""
    if isinstance(values, kind | Mapping | str) or not isinstance(values, Iterable):
        raise TypeError(f"give several {kind.__name__}s, such as a list, not a {type(values).__name__}")
    return values


def topic_names(topics: Topics) -> tuple[str, ...]:
    """The topics as a tuple. Raises `ValueError` when there is none, `TypeError` for what is no text."""
    if not isinstance(topics, Iterable):
        raise TypeError(f"topics: give a text or several, not a {type(topics).__name__}")
    names = (topics,) if isinstance(topics, str) else tuple(topics)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("topics: each of them is a text")
    if not names or not all(names):
        raise ValueError("topics: name one topic or more, none of them empty")
    return names


def json_bytes(value: Any) -> bytes:
    """A JSON document. Raises `ValueError` for what cannot be written, with its place."""
    try:
        return msgspec.json.encode(value)
    except ValueError:  # a text that UTF-8 cannot write, or an integer of too many digits
        convert(value)
        raise
    except RecursionError:
        raise ValueError("the value is nested too deeply; at most 170 levels are taken") from None


def checked_json(value: Any, name: str) -> Any:
    """The value as JSON has it, as `to_json` makes it. Raises `ValueError` with the place of what is not."""
    try:
        converted = to_json(value)
        json_bytes(converted)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return converted
