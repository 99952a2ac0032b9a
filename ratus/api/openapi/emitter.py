"""JSON values as YAML, so that serving the document needs no YAML library.

Block style throughout; texts are JSON strings, which YAML reads as they are, or literal blocks where they
have several lines; names are plain where that is safe. The same value always gives the same text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, Final

_PLAIN_NAME: Final = re.compile(r"[A-Za-z_$][A-Za-z0-9_$-]*")

# What YAML lets stand as it is: neither control characters nor separators of lines nor byte order marks.
_PLAIN_TEXT: Final = re.compile(
    r"[\n\x20-\x7e\xa0-\u2027\u202a-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]*"
)
_EXPONENT: Final = re.compile(r"^(-?\d+)e")

# Plain words that YAML 1.1 takes for booleans or null.
_RESERVED: Final = frozenset({"true", "false", "yes", "no", "on", "off", "y", "n", "null"})


def to_yaml(value: Any) -> str:
    """`value`, made of dict, list, str, int, float, bool and None, as a YAML document."""
    return "\n".join(_lines(value)) + "\n"


def _lines(value: Any) -> Iterator[str]:
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from _entry(f"{_name(name)}:", member)
    elif isinstance(value, list) and value:
        for item in value:
            yield from _item(item)
    else:
        yield _scalar(value)


def _entry(head: str, value: Any) -> Iterator[str]:
    """`head` followed by `value`, on the same line where it fits there."""
    if isinstance(value, dict | list) and value:
        yield head
        yield from _indented(_lines(value))
    elif isinstance(value, str) and _is_block(value):
        yield f"{head} |-"
        yield from _indented(value.split("\n"))
    else:
        yield f"{head} {_scalar(value)}"


def _item(value: Any) -> Iterator[str]:
    """`value` behind a dash. A mapping or a list begins on the line of the dash."""
    if isinstance(value, dict | list) and value:
        first, *others = _lines(value)
        yield f"- {first}"
        yield from _indented(others)
    else:
        yield from _entry("-", value)


def _indented(lines: Iterable[str]) -> Iterator[str]:
    return (f"  {line}" if line else "" for line in lines)


def _name(name: str) -> str:
    plain = _PLAIN_NAME.fullmatch(name) and name.lower() not in _RESERVED
    return name if plain else _text(name)


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        return _text(value)
    # YAML 1.1 takes `1e+16` for a text; with a point it is a number everywhere.
    return _EXPONENT.sub(r"\1.0e", json.dumps(value, allow_nan=False))


def _text(text: str) -> str:
    quoted = json.dumps(text, ensure_ascii=False)
    return "".join(c if _PLAIN_TEXT.fullmatch(c) else _escaped(c) for c in quoted)


def _escaped(character: str) -> str:
    return f"\\u{ord(character):04x}"


def _is_block(text: str) -> bool:
    """Whether `text` has several lines and reads back unchanged as a literal block."""
    return "\n" in text and text == text.strip() and _PLAIN_TEXT.fullmatch(text) is not None
