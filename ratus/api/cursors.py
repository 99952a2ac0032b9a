"""Cursors: a position in a list as opaque text.

A cursor carries the position that the engine gave, bound to the topic it is of, so that one from another
list is refused instead of silently giving the wrong page.
"""

from __future__ import annotations

import base64
import binascii
import zlib

from ratus.core.errors import BadRequest


def lanes_list(topic: str, label: str) -> str:
    """What the cursors of a topic's list of lanes are bound to, as those of tasks are to the topic."""
    return f"{label}\0{topic}"


def make_cursor(position: str, topic: str) -> str:
    """The cursor for a position in a topic's list of tasks, or in a list that is not of tasks alone."""
    return base64.urlsafe_b64encode(_mark(position.encode(), topic) + position.encode()).decode().rstrip("=")


def read_cursor(cursor: str, topic: str) -> str:
    """The position in a cursor. Raises `BadRequest` for a cursor that is damaged or of another list."""
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        if len(raw) > 4 and raw[:4] == _mark(raw[4:], topic):
            return raw[4:].decode()
    except (binascii.Error, ValueError):
        pass
    raise BadRequest("after: this cursor is not of this list; start with an empty one")


def _mark(position: bytes, topic: str) -> bytes:
    return zlib.crc32(position, zlib.crc32(topic.encode())).to_bytes(4, "big")
