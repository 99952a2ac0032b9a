"""The parts of which an operation's description is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Examples = Mapping[str, Any]
"""JSON values, each under a short name that says what it shows."""


@dataclass(frozen=True)
class Body:
    """The body of a request: the name of its schema, and whether it may be left out or `null`."""

    schema: str
    description: str
    examples: Examples
    required: bool = True
    nullable: bool = True


@dataclass(frozen=True)
class Answer:
    """A successful answer. `schemas` are the names of its alternatives; without one it has no body."""

    description: str
    schemas: tuple[str, ...] = ()
    examples: Examples = field(default_factory=dict)
    content_type: str = "application/json"


@dataclass(frozen=True)
class Operation:
    """One operation: a method on a path.

    `query` are keys of `parameters()`. `errors` are the errors of its own, by status, with what they mean
    here; those that every operation may answer are added when the document is put together.
    """

    tag: str
    summary: str
    description: str
    answers: Mapping[int, Answer]
    errors: Mapping[int, str] = field(default_factory=dict)
    query: tuple[str, ...] = ()
    body: Body | None = None
