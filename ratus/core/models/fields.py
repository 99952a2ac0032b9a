"""What the members of the public models have in common: text on the wire, Python values inside."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from difflib import get_close_matches
from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
    model_validator,
)
from pydantic.config import JsonDict
from pydantic_core import PydanticCustomError

from ratus.core.durations import format_duration, parse_duration
from ratus.core.limits import MAX_NAME_BYTES
from ratus.core.models.json_values import convert, to_json
from ratus.core.times import format_time, parse_time
from ratus.core.turns import MAX_HOLD, MAX_PERIOD

DURATION_PATTERN: Final = r"^[-+]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)$"
"""A Go duration as a regular expression, for `openapi.yaml`; values are checked by `parse_duration`."""

INPUT_ONLY: JsonDict = {"writeOnly": True}
"""Marks a member that occurs in requests only; `openapi.yaml` leaves it out of answers."""

ANSWER_ONLY: JsonDict = {"readOnly": True}
"""Marks a member that occurs in answers only; `openapi.yaml` leaves it out of requests."""

DurationLike: TypeAlias = str | int | float | timedelta
"""A length of time: text such as `"30s"` or `"1h30m"`, a number of seconds, or a `timedelta`."""

TimeLike: TypeAlias = datetime | str
"""An instant: an aware `datetime`, or RFC 3339 text such as `"2026-01-31T12:00:00Z"`."""

_MADE: Final = {"made": True}
"""The validation context of a model that a program constructs, as opposed to one that is read."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def is_made(info: ValidationInfo) -> bool:
    """Whether a program constructs the model, rather than reads it from a server's answer or a file.

    A constructed model is checked as strictly as the server checks it; one that is read may come from a newer
    server.
    """
    return info.context is _MADE


class WireModel(BaseModel):
    """The base of every public model.

    A call such as `Task(id="1")` refuses a member that the model does not have, which is most likely a slip;
    so do the models within it. `model_validate` ignores it, as the server does, so that answers of newer
    servers stay readable. `None` means absent. Members may be given by their Python name (`id`) or by their
    name on the wire (`_id`).

    A name on the wire is given as `validation_alias` and `serialization_alias`: type checkers would take a
    mere `alias` for the only name that an argument has.
    """

    model_config = ConfigDict(populate_by_name=True, extra="ignore")

    # Not for type checkers: they go by the members, or by the `__init__` that a model declares for them.
    if not TYPE_CHECKING:

        def __init__(self, /, **members: Any) -> None:
            self.__pydantic_validator__.validate_python(members, self_instance=self, context=_MADE)

        # As pydantic marks its own `__init__`: `model_validate`, which has another context, must not call it.
        __init__.__pydantic_base_init__ = True

    @model_validator(mode="before")
    @classmethod
    def _null_is_absent(cls, members: Any, info: ValidationInfo) -> Any:
        if not isinstance(members, dict):
            return members
        if is_made(info) and not members.keys() <= (known := _names_of(cls)):
            raise _unknown_member(cls, next(name for name in members if name not in known), known)
        return {name: member for name, member in members.items() if member is not None}

    def to_wire(self) -> dict[str, Any]:
        """The JSON object that travels, named as on the wire, members at their default left out."""
        try:
            return self.model_dump(mode="json", by_alias=True, exclude_defaults=True)
        except UnicodeEncodeError:
            convert(self.model_dump(by_alias=True, exclude_defaults=True))  # raises, and says where
            raise


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
            if value != value:
                raise ValueError("a duration is so many seconds, and nan is no number")
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


def _at_most(microseconds: int) -> Callable[[timedelta], timedelta]:
    longest = timedelta(microseconds=microseconds)

    def check(value: timedelta) -> timedelta:
        if value > longest:
            raise ValueError(f"must not be longer than {format_duration(microseconds)}")
        return value

    return check


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


@cache
def _names_of(model: type[BaseModel]) -> frozenset[str]:
    """Under which names the members of a model may be given."""
    aliases = {field.validation_alias for field in model.model_fields.values()}
    return frozenset(model.model_fields) | {alias for alias in aliases if isinstance(alias, str)}


def _unknown_member(model: type[BaseModel], name: object, known: frozenset[str]) -> PydanticCustomError:
    near = get_close_matches(str(name), sorted(known), 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(model.model_fields))}"
    message = f"{model.__name__} has no member {str(name)[:60]!r}{hint}"
    return PydanticCustomError("unknown_member", "{message}", {"message": message})


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

Hold = Annotated[PositiveDuration, AfterValidator(_at_most(MAX_HOLD))]
"""A `Duration` of more than 0 and at most a day."""

Period = Annotated[PositiveDuration, AfterValidator(_at_most(MAX_PERIOD))]
"""A `Duration` of more than 0 and at most a year."""

Name = Annotated[str, AfterValidator(_checked_name), Field(max_length=MAX_NAME_BYTES)]
"""An id or a topic; empty counts as not given."""

Json = Annotated[Any, AfterValidator(to_json), WithJsonSchema({})]
"""Any JSON value, as Python's `json` reads it; what is not plain is taken as `to_json` says."""
