"""Checks what a program passes to the client (durations, times, topics, payloads), and turns it into JSON or
the text that is sent to the server.

`requests` builds every request with it; `delivery` and `ratus.worker` check their arguments with it.
"""

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
"""The name of one topic, or of several in order of preference."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def microseconds(value: DurationLike, name: str) -> int:
    """A duration in microseconds; a number is one of seconds, a text such as ``"30s"`` is parsed.

    Raises `ValueError` for a text that is no duration and a number out of range, `TypeError` for another
    type. Their messages begin with `name`, the argument of the caller.
    """
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
    """A duration as the text that is sent to the server. Raises as `microseconds` does."""
    return format_duration(microseconds(value, name))


def time_text(value: TimeLike, name: str) -> str:
    """A time as the text that is sent to the server: RFC 3339, in UTC.

    Raises `ValueError` for a text that is no time and a datetime without time zone, `TypeError` for another
    type. Their messages begin with `name`, the argument of the caller.
    """
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
    """`value`, if it is an object of the class `kind`. Raises `TypeError`, which shows how to make one of a
    dict."""
    if isinstance(value, kind):
        return value
    name = kind.__name__
    hint = f"; {name}(**members) makes one of a dict" if isinstance(value, Mapping) else ""
    raise TypeError(f"give a {name}, not a {type(value).__name__}{hint}")


def several(values: Iterable[Model], kind: type[Model]) -> Iterable[Model]:
    """`values`, if they can be iterated over for objects of `kind`; these are not checked yet (`checked`).

    Raises `TypeError` for a single object, a dict or a text.
    """
    if isinstance(values, kind | Mapping | str) or not isinstance(values, Iterable):
        raise TypeError(f"give several {kind.__name__}s, such as a list, not a {type(values).__name__}")
    return values


def topic_names(topics: Topics) -> tuple[str, ...]:
    """The topics as a tuple. Raises `ValueError` for none or an empty one, `TypeError` for what is no
    text."""
    if not isinstance(topics, Iterable):
        raise TypeError(f"topics: give a text or several, not a {type(topics).__name__}")
    names = (topics,) if isinstance(topics, str) else tuple(topics)
    if not all(isinstance(name, str) for name in names):
        raise TypeError("topics: each of them has to be a text")
    if not names or not all(names):
        raise ValueError("topics: name one topic or more, none of them empty")
    return names


def json_bytes(value: Any) -> bytes:
    """`value` as a JSON document. Raises `ValueError` with the place of what JSON cannot hold."""
    try:
        return msgspec.json.encode(value)
    except ValueError:  # a text that UTF-8 cannot write, or an integer of too many digits
        convert(value)  # raises the error that says where
        raise
    except RecursionError:
        raise ValueError("the value is nested too deeply; at most 170 levels are taken") from None


def checked_json(value: Any, name: str) -> Any:
    """`value` as `to_json` makes it of dicts, lists, texts and numbers.

    Raises `ValueError`, which begins with `name` and has the place of what JSON cannot hold.
    """
    try:
        converted = to_json(value)
        json_bytes(converted)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return converted
