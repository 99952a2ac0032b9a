"""Checks what a program passes to the client (durations, times, topics, payloads), and turns it into JSON or
the text that is sent to the server.

`requests` builds every request with it; `delivery` and `ratus.worker` check their arguments with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal, TypeAlias, TypeVar

import msgspec

from ratus.core import labels
from ratus.core.durations import format_duration, parse_duration
from ratus.core.models import WireModel
from ratus.core.models.fields import DurationLike as DurationLike
from ratus.core.models.fields import TimeLike as TimeLike
from ratus.core.models.json_values import convert, to_json
from ratus.core.models.labels import LabelValue as LabelValue
from ratus.core.models.labels import check_together, preferred_names, where_members
from ratus.core.selection import ORDERS
from ratus.core.times import format_time, parse_time
from ratus.core.turns import MAX_HOLD

Model = TypeVar("Model", bound=WireModel)
T = TypeVar("T")

Topics: TypeAlias = str | Sequence[str]
"""The name of one topic, or of several in order of preference."""

Order: TypeAlias = Literal["due", "newest", "random"]
"""Which task comes first within a priority."""

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


def hold_text(value: DurationLike) -> str:
    """How long to hold as the text that is sent. Raises `ValueError` unless it is more than 0 and at most
    24 hours, `TypeError` as `microseconds` does."""
    hold = microseconds(value, "hold")
    if not 0 < hold <= MAX_HOLD:
        longest = format_duration(MAX_HOLD)
        raise ValueError(
            f"hold: it must be longer than 0s and at most {longest}, not {format_duration(hold)}"
        )
    return format_duration(hold)


def choice_members(
    order: Order | None, where: Mapping[str, LabelValue] | None, prefer: str | Sequence[str] | None
) -> dict[str, Any]:
    """What a poll chooses, as members of its request. Raises `ValueError`, which names the argument, and
    `TypeError` for an argument of another type."""
    members: dict[str, Any] = {}
    if order is not None:
        if order not in ORDERS:
            raise ValueError(f"order: {order!r} is none of {', '.join(ORDERS)}")
        members["order"] = order
    if where is not None:
        if not isinstance(where, Mapping):
            raise TypeError(f"where: give a dict of one label, not a {type(where).__name__}")
        members["where"] = _named("where", where_members, where)
    if prefer is not None:
        if not isinstance(prefer, Iterable) or not all(isinstance(name, str) for name in prefer):
            raise TypeError("prefer: give the name of a label as a text, or several")
        names = members["prefer"] = _named("prefer", preferred_names, prefer)
        _named("prefer", lambda given: check_together(where, given), names)
    return members


def label_filters(wanted: Mapping[str, LabelValue] | None) -> list[tuple[str, str]]:
    """The parameters of a list that say which labels tasks have to have. Raises `ValueError`."""
    if wanted is None:
        return []
    if not isinstance(wanted, Mapping):
        raise TypeError(f"labels: give a dict of names and values, not a {type(wanted).__name__}")
    filters: list[tuple[str, str]] = []
    for name, value in wanted.items():
        _named("labels", labels.check_name, name)
        filters += [(f"label.{name}", text) for text in _named(f"labels: {name}", labels.texts_of, value)]
    return filters


def _named(name: str, read: Callable[[Any], T], value: Any) -> T:
    """What `read` makes of an argument. Raises `ValueError`, which begins with the argument's name."""
    try:
        return read(value)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


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
