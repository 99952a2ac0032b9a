"""What the members of the public models have in common: text on the wire, Python values inside."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict

from ratus.durations import format_duration, parse_duration
from ratus.limits import MAX_NAME_BYTES
from ratus.times import format_time, parse_time

DURATION_PATTERN: Final = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
"""A Go duration as a regular expression, for the document; `parse_duration` is what decides."""

INPUT_ONLY: JsonDict = {"writeOnly": True}
"""Marks a member that only travels towards the server; the document leaves it out of answers."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)
_JSON: Final = TypeAdapter[Any](JsonValue, config=ConfigDict(allow_inf_nan=False))


class WireModel(BaseModel):
    """The base of every public model.

    Read as the server reads: members it does not know are ignored and `null` means absent. Members may be
    given by their Python name (`id`) or by their name on the wire (`_id`).

    A name on the wire is given as `validation_alias` and `serialization_alias`: type checkers would take a
    mere `alias` for the only name that an argument has.
    """

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, members: Any) -> Any:
        if isinstance(members, dict):
            return {name: member for name, member in members.items() if member is not None}
        return members

    def to_wire(self) -> dict[str, Any]:
        """The JSON object that travels, named as on the wire, members at their default left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)


def _read_time(value: object) -> datetime:
    if isinstance(value, str):
        try:
            return _EPOCH + timedelta(microseconds=parse_time(value))
        except OverflowError:
            raise ValueError(f"the time {value} is before the year 1, which datetime cannot hold") from None
    if not isinstance(value, datetime):
        raise ValueError(
            "write a time as RFC 3339 text, such as 2026-01-31T12:00:00Z, or give an aware datetime"
        )
    if value.utcoffset() is None:
        raise ValueError(
            "a naive datetime could be any instant; give one with a time zone, such as datetime.now(UTC)"
        )
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError(f"the time {value} is outside the years 1 to 9999 in UTC") from None


def _write_time(value: datetime) -> str:
    return format_time((value - _EPOCH) // _MICROSECOND)


def _read_duration(value: object) -> timedelta:
    if isinstance(value, timedelta):
        return value
    try:
        if isinstance(value, str):
            return timedelta(microseconds=parse_duration(value))
        if isinstance(value, int | float) and not isinstance(value, bool):
            return timedelta(seconds=value)
    except OverflowError:
        raise ValueError(f"the duration {value} is too long") from None
    raise ValueError("write a duration as text such as 300ms, 1.5s or 1h30m, or give seconds or a timedelta")


def _not_negative(value: timedelta) -> timedelta:
    if value < timedelta(0):
        raise ValueError("must not be negative")
    return value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError("must be more than 0")
    return value


def _write_duration(value: timedelta) -> str:
    return format_duration(value // _MICROSECOND)


def _checked_name(value: str) -> str:
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("holds a lone surrogate, which UTF-8 cannot write") from None
    if size > MAX_NAME_BYTES:
        raise ValueError(f"takes {size} bytes in UTF-8, more than {MAX_NAME_BYTES}")
    return value


def _checked_json(value: object) -> Any:
    try:
        return _JSON.validate_python(value)
    except ValidationError as error:
        reason = error.errors()[0]["msg"].lower()
        raise ValueError(
            f"must be JSON: dict with text as names, list, str, int, finite float, bool or None ({reason})"
        ) from None


Time = Annotated[
    datetime,
    BeforeValidator(_read_time),
    PlainSerializer(_write_time, return_type=str),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant: RFC 3339 text or an aware `datetime` in, kept in UTC; RFC 3339 with `Z` out."""

_DURATION_SCHEMA: Final = {"type": "string", "format": "go-duration", "pattern": DURATION_PATTERN}
_NOT_NEGATIVE: Final = DURATION_PATTERN.replace("[-+]?", "[+]?")

Duration = Annotated[
    timedelta,
    BeforeValidator(_read_duration),
    PlainSerializer(_write_duration, return_type=str),
    WithJsonSchema(_DURATION_SCHEMA),
]
"""A length of time: Go duration text, seconds or a `timedelta` in; Go duration text out."""

NonNegativeDuration = Annotated[
    Duration, AfterValidator(_not_negative), WithJsonSchema({**_DURATION_SCHEMA, "pattern": _NOT_NEGATIVE})
]
"""A `Duration` of 0 or more."""

PositiveDuration = Annotated[
    Duration,
    AfterValidator(_positive),
    WithJsonSchema({**_DURATION_SCHEMA, "pattern": _NOT_NEGATIVE.replace("^", "^(?=.*[1-9])")}),
]
"""A `Duration` of more than 0."""

Name = Annotated[str, AfterValidator(_checked_name), Field(max_length=MAX_NAME_BYTES)]
"""An id or a topic; empty counts as not given."""

Whole = Annotated[int, Field(strict=True)]
"""An integer; neither `True` nor `"1"` is one."""

Flag = Annotated[bool, Field(strict=True)]
"""A boolean; neither `1` nor `"yes"` is one."""

Json = Annotated[Any, AfterValidator(_checked_json), WithJsonSchema({})]
"""Any JSON value, as Python's `json` reads it."""
