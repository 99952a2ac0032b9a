"""Durations as text in Go's notation, such as `300ms`, `1.5s` or `1h30m`; inside, whole microseconds."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from ratus.core.quoting import quoted

_NANOSECONDS: Final = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,  # the micro sign
    "\u03bcs": 1_000,  # the Greek letter mu, which many keyboards give instead
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}

# One number with its unit. Every part may be empty, so it always matches, and what is missing can be named.
# A unit ends where the next number begins.
_PART: Final = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")

# Go keeps a duration in a signed 64-bit number of nanoseconds; what does not fit is not a duration.
_MAX_NANOSECONDS: Final = 2**63 - 1
_MIN_NANOSECONDS: Final = -(2**63)

# All units at full precision need less than half of it; beyond it the text is an attack or a mistake.
_MAX_LENGTH: Final = 128

# A client uses a handful of durations; this many distinct ones, of at most _MAX_LENGTH each, stay small.
_CACHED_TEXTS: Final = 512


def parse_duration(text: str) -> int:
    """The microseconds that `text` means in the notation of Go's `time.ParseDuration`.

    That is an optional sign and one or more decimal numbers, each with an optional fraction and a unit out
    of `ns`, `us` (or `µs`), `ms`, `s`, `m`, `h`: `300ms`, `-1.5h`, `2h45m`. A lone `0` needs no unit.
    There is no white space. Each number is cut to the nanosecond, then the sum to the microsecond, towards
    zero. All is exact, where Go's floating point may miss the last nanosecond of a long fraction.

    Raises `ValueError`, with a message fit for the sender, for any other text, for one longer than 128
    characters, and for a duration that does not fit 64 bits of nanoseconds (about 292 years).
    """
    if len(text) > _MAX_LENGTH:
        raise _invalid(text, f"longer than {_MAX_LENGTH} characters")
    return _parse(text)


@lru_cache(maxsize=_CACHED_TEXTS)
def _parse(text: str) -> int:
    position = 1 if text.startswith(("+", "-")) else 0
    if text[position:] == "0":
        return 0
    if position == len(text):
        raise _invalid(text, "no number after the sign" if text else "it is empty")
    nanoseconds = 0
    while position < len(text):
        part = _PART.match(text, position)
        assert part is not None
        whole, fraction, unit = part.groups(default="")
        if not whole and not fraction:
            raise _invalid(text, f"no number before {quoted(text[position:])}")
        if not unit:
            raise _invalid(text, f"no unit after {quoted(text[position : part.end()])}")
        if unit not in _NANOSECONDS:
            raise _invalid(text, f"unknown unit {quoted(unit)}")
        scale = _NANOSECONDS[unit]
        nanoseconds += int(whole or "0") * scale + int(fraction or "0") * scale // 10 ** len(fraction)
        position = part.end()
    negative = text.startswith("-")
    if not _MIN_NANOSECONDS <= (-nanoseconds if negative else nanoseconds) <= _MAX_NANOSECONDS:
        raise _invalid(text, "out of range, the longest is about 2562047h")
    microseconds = nanoseconds // 1_000
    return -microseconds if negative else microseconds


def format_duration(microseconds: int) -> str:
    """The text of a duration of so many microseconds, as Go's `Duration.String` writes it.

    Hours, minutes and seconds from a second up (`1h30m0s`, `1.5s`), else one number with the largest unit
    that makes it at least one (`1.5ms`, `250µs`); `0s` for none. `parse_duration` reads it back unchanged.
    """
    sign = "-" if microseconds < 0 else ""
    size = abs(microseconds)
    if size == 0:
        return "0s"
    if size < 1_000:
        return f"{sign}{size}\u00b5s"
    if size < 1_000_000:
        return f"{sign}{_decimal(size, digits=3)}ms"
    minutes, rest = divmod(size, 60_000_000)
    text = f"{_decimal(rest, digits=6)}s"
    if minutes:
        hours, minutes = divmod(minutes, 60)
        text = f"{hours}h{minutes}m{text}" if hours else f"{minutes}m{text}"
    return sign + text


def _decimal(value: int, *, digits: int) -> str:
    """`value` / 10**`digits` without trailing zeros."""
    whole, fraction = divmod(value, 10**digits)
    return f"{whole}.{fraction:0{digits}d}".rstrip("0") if fraction else str(whole)


def _invalid(text: str, reason: str) -> ValueError:
    return ValueError(
        f"invalid duration {quoted(text)}: {reason}; write a number with a unit such as 300ms, 1.5s or 1h30m"
    )
