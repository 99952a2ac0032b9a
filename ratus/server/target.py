"""Splitting a request target into path and query, without decoding what routing must see undecoded."""

from __future__ import annotations

import re
from urllib.parse import unquote

from ratus.core.errors import BadRequest

# A path of printable characters alone: neither a query nor a fragment.
_PLAIN = re.compile(rb"/[!-\"$->@-~]*")


Target = tuple[bytes, str, bytes]
"""A request target, split: the path as it travelled (``//v1`` stays ``//v1``); the path percent-decoded, with
U+FFFD for bytes that are not UTF-8; and what follows the question mark, undecoded, empty without one."""


def split_target(method: str, target: bytes) -> Target:
    """Split ``target``: a path (origin-form), ``http://host/path`` (absolute-form), or ``*`` for OPTIONS.

    A fragment is cut off. Raises BadRequest for every other form and for bytes outside printable ASCII.
    """
    if _PLAIN.fullmatch(target):  # nearly all of them
        text = target.decode("ascii")
        return target, unquote(text) if "%" in text else text, b""
    if not target.isascii():
        raise BadRequest("the request target holds bytes outside ASCII; percent-encode them")
    text = target.decode("ascii")
    if not text.isprintable() or " " in text:
        raise BadRequest("the request target holds spaces or control characters; percent-encode them")
    if "#" in text:
        text = text[: text.index("#")]
    if not text.startswith("/"):
        text = _path_of_absolute(method, text)
    path, _, query = text.partition("?")
    return path.encode("ascii"), unquote(path) if "%" in path else path, query.encode("ascii")


def _path_of_absolute(method: str, text: str) -> str:
    """The path and query of a target that does not start with a slash."""
    if text == "*" and method == "OPTIONS":
        return text
    scheme, separator, rest = text.partition("://")
    if not separator or scheme.lower() not in ("http", "https") or rest[:1] in ("", "/", "?"):
        raise BadRequest("the request target must be a path that starts with /, or http://host/path")
    ends = [position for position in (rest.find("/"), rest.find("?")) if position >= 0]
    path = rest[min(ends) :] if ends else ""
    return path if path.startswith("/") else "/" + path
