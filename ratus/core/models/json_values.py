"""Converts values of programs to JSON: plain values stay, models become objects, times and the like text."""

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
from pydantic_core import to_jsonable_python

MAX_DEPTH: Final = 170
"""Levels of nesting that the server takes."""

_PLAIN: Final = TypeAdapter[Any](JsonValue, config=ConfigDict(allow_inf_nan=False, strict=True))

_TEXTS: Final = (UUID, datetime, date, time, timedelta, Decimal)
"""Types whose values are written as text; from the text `Delivery.decode` makes the same value again."""

_LARGEST: Final = 10**4_300 - 1
"""The largest integer that the server takes: one of 4,300 digits."""

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
        # Something in it is not plain JSON: go through it member by member, to convert it or say where it is.
        return convert(value)


def convert(value: object) -> Any:
    """As `to_json`, but always member by member; also refuses texts that UTF-8 cannot write."""
    return _convert(value, "", 0)


def _convert(value: object, place: str, depth: int) -> Any:
    if depth > MAX_DEPTH:
        raise _refusal("is nested too deeply, or holds itself", place[:_SHOWN])
    if value is None or (isinstance(value, bool | int) and not isinstance(value, Enum)):
        if value is not None and not -_LARGEST <= value <= _LARGEST:
            raise _refusal("is an integer of more than 4,300 digits", place)
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
        members: dict[str, Any] = {}
        for name, item in value.items():
            if (text := _name(name, place)) in members:
                raise _refusal(f"has the name {text!r:.60} twice", place)
            members[text] = _convert(item, _below(place, name), depth + 1)
        return members
    if is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in fields(value)]
        return {name: _convert(_member(value, name, place), _below(place, name), depth + 1) for name in names}
    if isinstance(value, BaseModel):
        return _convert(_dump(value, place), place, depth)
    if isinstance(value, PurePath):
        return _text(str(value), place)
    if isinstance(value, Decimal) and not value.is_finite():
        raise _refusal(f"is {value}; give a finite number", place)
    if isinstance(value, _TEXTS):
        return _text(to_jsonable_python(value), place)
    hint = "; write it as text, such as in base64" if isinstance(value, bytes | bytearray) else ""
    hint = "; sort it into a list" if isinstance(value, set | frozenset) else hint
    raise _refusal(f"is of type {type(value).__name__}, which JSON does not have{hint}", place)


def _member(value: object, name: str, place: str) -> object:
    try:
        return getattr(value, name)
    except AttributeError:
        raise _refusal("has no value", _below(place, name)) from None


def _dump(model: BaseModel, place: str) -> Any:
    try:
        members = model.model_dump(mode="json", by_alias=True)
        plain = model.model_dump(by_alias=True)
    except ValueError as error:  # pydantic's own, or one of a serializer that the model has
        raise _refusal(f"cannot be written: {error}", place) from None
    _find_lost_number(plain, members, place)
    return members


def _find_lost_number(plain: object, written: object, place: str) -> None:
    """Raise `ValueError` for a number that is not finite, in whose place pydantic has written null."""
    if isinstance(plain, float):
        if written is None:
            raise _refusal(f"is {plain}; JSON takes finite numbers", place)
    elif isinstance(plain, dict) and isinstance(written, dict):
        for name in plain.keys() & written.keys():
            _find_lost_number(plain[name], written[name], _below(place, name))
    elif isinstance(plain, list | tuple) and isinstance(written, list):
        for index, (item, other) in enumerate(zip(plain, written, strict=False)):
            _find_lost_number(item, other, f"{place}[{index}]")


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
