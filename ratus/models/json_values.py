"""What programs have, as JSON: plain values as they are, models as objects, times and the like as text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite
from pathlib import PurePath
from typing import Any, Final
from uuid import UUID

from pydantic import BaseModel, ConfigDict, JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError, to_jsonable_python

MAX_DEPTH: Final = 170
"""Levels of nesting that the server takes."""

_PLAIN: Final = TypeAdapter[Any](JsonValue, config=ConfigDict(allow_inf_nan=False))

_TEXTS: Final = (UUID, datetime, date, time, timedelta, Decimal)
"""What is written as its text, from which `Delivery.decode` makes the same again."""

_SHOWN: Final = 120
"""Characters of a path that an error shows."""


def to_json(value: object) -> Any:
    """The value as JSON has it: dict, list, str, int, float, bool, None. Raises `ValueError` with the place.

    Dataclasses and pydantic models become objects, tuples arrays, an `Enum` its value; UUIDs, times,
    `Decimal`s and paths become texts.
    """
    try:
        return _PLAIN.validate_python(value)
    except ValidationError:
        # Something in it is not plain; where, and what can be done about it, is found out one by one.
        return convert(value)


def convert(value: object) -> Any:
    """As `to_json`, member by member: also finds texts that UTF-8 cannot write, which are rare."""
    return _convert(value, "", 0)


def _convert(value: object, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refusal("is nested too deeply, or holds itself", place[:_SHOWN])
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        return value
    if isinstance(value, Enum):
        return _convert(value.value, place, depth + 1)
    if isinstance(value, str):
        return _text(value, place)
    if isinstance(value, float):
        if not isfinite(value):
            raise _refusal(f"is {value}; JSON takes finite numbers", place)
        return value
    if isinstance(value, list | tuple):
        return [_convert(item, f"{place}[{index}]", depth + 1) for index, item in enumerate(value)]
    if isinstance(value, Mapping):
        return {
            _name(name, place): _convert(item, _below(place, name), depth + 1) for name, item in value.items()
        }
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return {name: _convert(getattr(value, name), _below(place, name), depth + 1) for name in names}
    if isinstance(value, BaseModel):
        try:
            members = value.model_dump(mode="json", by_alias=True)
        except PydanticSerializationError as error:
            raise _refusal(f"cannot be written: {error}", place) from None
        return _convert(members, place, depth)
    if isinstance(value, PurePath):
        return _text(str(value), place)
    if isinstance(value, _TEXTS):
        return _text(to_jsonable_python(value), place)
    hint = "; write it as text, such as in base64" if isinstance(value, bytes | bytearray) else ""
    hint = "; sort it into a list" if isinstance(value, set | frozenset) else hint
    raise _refusal(f"is of type {type(value).__name__}, which JSON does not have{hint}", place)


def _text(value: str, place: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _refusal("holds a lone surrogate, which UTF-8 cannot write", place) from None
    return value


def _name(name: object, place: str) -> str:
    converted = _convert(name, place, 0)
    if not isinstance(converted, str):
        raise _refusal(f"has the name {name!r:.60}, which is not a string", place)
    return converted


def _below(place: str, name: object) -> str:
    return f"{place}.{name}" if isinstance(name, str) and name.isidentifier() else f"{place}[{name!r:.60}]"


def _refusal(problem: str, place: str) -> ValueError:
    return ValueError(f"must be JSON: {place.removeprefix('.') or 'it'} {problem}")
