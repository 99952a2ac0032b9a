"""Labels of a task: names with values, by which tasks are found, take turns and are limited.

On the wire, labels are an object: a value is a text, an integer, or an array of those. A record keeps that
object as JSON text. What labels *mean* is pairs of name and value, both texts: an integer is equal to its
decimal text, and an array has each of its values.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, Final, TypeAlias

import msgspec

from ratus.core.quoting import quoted

MAX_LABELS: Final = 8
"""The most names that the labels of one task have."""

MAX_LABEL_VALUES: Final = 16
"""The most values that the labels of one task have together: each is an entry of an index."""

MAX_VALUE_BYTES: Final = 256
"""The longest value of a label, in bytes of UTF-8."""

NAME_PATTERN: Final = r"[A-Za-z0-9._/\-]{1,64}"
NAME_FORM: Final = "1 to 64 of A-Z a-z 0-9 . _ - /"

_NAME = re.compile(NAME_PATTERN)
_INTEGERS = range(-(2**63), 2**63)

Pair: TypeAlias = tuple[str, str]
"""A label's name and one of its values."""


def check_name(name: str) -> None:
    """Raise `ValueError` for what is not the name of a label."""
    if not _NAME.fullmatch(name):
        raise ValueError(f"{quoted(name)} is not a name of a label; use {NAME_FORM}")


def text_of(value: object) -> str:
    """The text of a label's value: of a text itself, of an integer its digits. Raises `ValueError`."""
    if isinstance(value, str):
        if len(value) > MAX_VALUE_BYTES // 4 and len(value.encode()) > MAX_VALUE_BYTES:
            raise ValueError(f"a value must not be longer than {MAX_VALUE_BYTES} bytes")
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        if value not in _INTEGERS:
            raise ValueError("an integer must fit 64 bits; give a text instead")
        return str(value)
    raise ValueError("a value is a text, an integer, or an array of these")


def texts_of(value: object) -> tuple[str, ...]:
    """The texts of a label's value, each once: of an array those of its values. Raises `ValueError`."""
    values = value if isinstance(value, (list, tuple)) else (value,)
    return tuple(dict.fromkeys(text_of(each) for each in values))


def check(labels: Mapping[str, Any]) -> None:
    """Raise `ValueError`, which names the label, unless these are the labels that a task may have."""
    if len(labels) > MAX_LABELS:
        raise ValueError(f"there are {len(labels)} names; at most {MAX_LABELS} are allowed")
    count = 0
    for name, value in labels.items():
        check_name(name)
        values = value if isinstance(value, (list, tuple)) else (value,)
        try:
            for each in values:
                text_of(each)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        count += len(values)
    if count > MAX_LABEL_VALUES:
        raise ValueError(f"there are {count} values; at most {MAX_LABEL_VALUES} are allowed")


@lru_cache(maxsize=4096)
def _pairs(labels: bytes) -> tuple[Pair, ...]:
    found: dict[Pair, None] = {}
    for name, value in msgspec.json.decode(labels).items():
        for each in value if isinstance(value, list) else (value,):
            found[name, str(each)] = None
    return tuple(found)


def pairs_of(labels: bytes | None) -> tuple[Pair, ...]:
    """Every name with every value of it, each once, in the order given. ``labels`` have been checked."""
    return () if labels is None else _pairs(labels)


@lru_cache(maxsize=4096)
def first_value(labels: bytes | None, name: str) -> str | None:
    """The value by which a task takes turns and is limited: the first of this label, ``None`` without one."""
    for pair in pairs_of(labels):
        if pair[0] == name:
            return pair[1]
    return None


def has_all(labels: bytes | None, wanted: Iterable[Pair]) -> bool:
    """Whether these labels have each of the wanted values."""
    return set(pairs_of(labels)).issuperset(wanted)


def has_any(labels: bytes | None, name: str, values: Iterable[str]) -> bool:
    """Whether this label has one of these values."""
    return any(pair[0] == name and pair[1] in values for pair in pairs_of(labels))
