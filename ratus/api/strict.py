"""Refuses what a request has that is not known, for resources on which a slip must not pass unnoticed."""

from __future__ import annotations

from collections.abc import Collection

from ratus.api.codec import Members
from ratus.api.query import Query
from ratus.core.errors import BadRequest
from ratus.core.quoting import quoted


class OnlyThese(frozenset[str]):
    """Names of members: a large body in which another one stands is refused while it is read."""


def unknown_member(name: str, known: Collection[str], where: str = "") -> BadRequest:
    """The refusal of a member; ``where`` begins the message."""
    return BadRequest(f"{where}the member {quoted(name)} is unknown; use {', '.join(sorted(known))}")


def check_members(members: Members, known: Collection[str], where: str = "") -> None:
    """Raise `BadRequest` that names a member which is not ``known``; ``where`` begins the message."""
    for name in members:
        if name not in known:
            raise unknown_member(name, known, where)


def check_parameters(query: Query, known: Collection[str]) -> None:
    """Raise `BadRequest` that names a parameter of the query which is not ``known``."""
    for name in query.names():
        if name not in known:
            hint = f"use {', '.join(sorted(known))}" if known else "there are none here"
            raise BadRequest(f"the parameter {quoted(name)} is unknown; {hint}")
