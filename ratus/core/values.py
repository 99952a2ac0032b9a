"""What is promised of values: the small JSON that clients share under a name."""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from ratus.core.records import ValueRecord

MAX_VALUE_BYTES: Final = 64 * 1024
"""Bytes of a value's JSON text: enough for a switch, a cursor or a configuration."""

MAX_VALUE_NAME_BYTES: Final = 900
"""Bytes of a value's name in UTF-8."""

VALUE_MEMBERS: Final = ("value", "revision")
"""Members of the request that sets a value."""

CHANGES_MEMBERS: Final = ("since", "prefix", "wait")
"""Members of the request that waits for several values."""

MAX_WATCHED: Final = 100
"""Values that a request may name to wait for; those of a prefix are not bounded."""


class NamedValue(Struct, frozen=True, gc=False):
    """A value and its name."""

    name: str
    record: ValueRecord
