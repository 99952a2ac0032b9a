"""Labels of tasks, and what a claim says of them, as members of the public models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final, TypeAlias

from pydantic import AfterValidator, BeforeValidator, ValidationInfo, WithJsonSchema

from ratus.core import labels
from ratus.core.members import PROMISE, RARE
from ratus.core.models.fields import is_made
from ratus.core.quoting import quoted
from ratus.core.selection import MAX_PREFERRED, MAX_WHERE_VALUES

LabelValue: TypeAlias = str | int | Sequence[str | int]
"""The value of a label: a text, an integer, or several of these."""

_PROMISE: Final = {member.name: member.type for member in PROMISE}


def _listed(value: Any) -> Any:
    """Labels with lists in place of other sequences, as JSON has them."""
    if not isinstance(value, Mapping):
        return value
    return {name: list(each) if isinstance(each, tuple) else each for name, each in value.items()}


def _checked(value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
    if is_made(info):
        labels.check(value)
    return value


def where_members(where: Mapping[str, LabelValue]) -> dict[str, Any]:
    """What ``where`` says, as JSON has it. Raises `ValueError` unless it is one label with 1 to 16 values."""
    if len(where) != 1:
        raise ValueError(f'name one label, such as {{"region": ["eu", "us"]}}, not {len(where)}')
    ((label, value),) = where.items()
    labels.check_name(label)
    count = len(labels.texts_of(value))
    if not 1 <= count <= MAX_WHERE_VALUES:
        raise ValueError(f"{label}: give 1 to {MAX_WHERE_VALUES} values, not {count}")
    return {label: list(value) if isinstance(value, tuple) else value}


def preferred_names(prefer: str | Iterable[str]) -> list[str]:
    """The names in ``prefer``, each once. Raises `ValueError` unless they are 1 to 3 names of labels."""
    names = list(dict.fromkeys((prefer,) if isinstance(prefer, str) else prefer))
    if not 1 <= len(names) <= MAX_PREFERRED:
        raise ValueError(f"name 1 to {MAX_PREFERRED} labels, not {len(names)}")
    for name in names:
        labels.check_name(name)
    return names


def check_together(where: Mapping[str, LabelValue] | None, prefer: Sequence[str]) -> None:
    """Raise `ValueError` where ``prefer`` names another label than ``where``: both do not go together."""
    if where and prefer and list(prefer) != list(where):
        (label,) = where
        raise ValueError(
            f"together with where, prefer may only name the same label, {quoted(label)}; leave one out"
        )


Labels = Annotated[
    dict[str, Any],
    BeforeValidator(_listed),
    AfterValidator(_checked),
    WithJsonSchema(RARE["labels"].type.schema()),
]
"""Labels of a task; as strict as the server where a program makes them."""

Where = Annotated[dict[str, Any], AfterValidator(where_members), WithJsonSchema(_PROMISE["where"].schema())]
"""One label with the values of which a task has to have one."""

Prefer = Annotated[
    str | list[str], AfterValidator(preferred_names), WithJsonSchema(_PROMISE["prefer"].schema())
]
"""The labels whose values take turns."""
