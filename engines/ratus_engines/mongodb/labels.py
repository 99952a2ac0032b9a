"""Labels as entries of an index: the field ``keys`` of a task, an array of texts.

| entry | means |
| --- | --- |
| `customer=acme` | the first value of the label, by which the task takes turns and is limited |
| `customer+other` | a further value of it |
| `customer` | the task has no value of the label, which is in use (`ratus_engines.mongodb.uses`) |

Names of labels hold neither ``=`` nor ``+``, and values may hold anything. A document without the field, as
every version before this one wrote them, has no labels. The field follows from ``labels`` and is written
wherever a task is written as a whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ratus.core.labels import Pair, first_value, pairs_of
from ratus.core.selection import Where

FIELD = "keys"


def keys_of(labels: bytes | None, in_use: Iterable[str] = ()) -> list[str]:
    """The entries of a task with these labels, in a topic where the labels ``in_use`` are in use."""
    keys: list[str] = []
    seen: set[str] = set()
    for name, value in pairs_of(labels):
        keys.append(f"{name}+{value}" if name in seen else f"{name}={value}")
        seen.add(name)
    keys += (name for name in in_use if name not in seen)
    return keys


def lane_key(label: str, value: str | None) -> str:
    """The entry that all tasks of a lane have, once its label is in use."""
    return label if value is None else f"{label}={value}"


def key_in(labels: bytes | None, label: str) -> str:
    """The entry of the lane that a task with these labels belongs to."""
    return lane_key(label, first_value(labels, label))


def having(pair: Pair) -> dict[str, Any]:
    """The condition on the field for tasks that have this value of a label."""
    name, value = pair
    return {"$in": [f"{name}={value}", f"{name}+{value}"]}


def matching(where: Where) -> dict[str, Any]:
    """The condition on the field for tasks that match."""
    return {"$in": [f"{where.label}{sign}{value}" for sign in "=+" for value in where.values]}
