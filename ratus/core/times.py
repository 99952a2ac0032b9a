"""Instants as text in RFC 3339; inside, whole microseconds since 1970-01-01 UTC."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from ratus.core.quoting import quoted

MIN_TIME: Final = -62_167_219_200_000_000
"""0000-01-01T00:00:00Z, the first instant that RFC 3339 can write."""

MAX_TIME: Final = 253_402_300_799_999_999
"""9999-12-31T23:59:59.999999Z, the last one, to the microsecond."""

# The fraction is possessive (`++`), so that a million digits without a zone are refused in one pass.
_RFC_3339: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})"
    r"(?:\.([0-9]++))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)

# Python's calendar begins with year 1. Year 0 is computed as year 400, which has the same calendar, and
# shifted back by 400 years.
_DAYS_OF_400_YEARS: Final = 146_097
_ORDINAL_OF_EPOCH: Final = date(1970, 1, 1).toordinal()

# Every half of a six-digit fraction: looking up two halves takes half the time of formatting the fraction.
_THREE_DIGITS: Final = tuple(f"{number:03d}" for number in range(1_000))

# The texts of seconds that were written lately, without fraction and zone. Nearly all times a server writes
# lie around now or one timeout from it, so a few hundred seconds suffice. A full cache is emptied, which
# costs less than keeping an order of eviction.
_CACHED_SECONDS: Final = 1_024
_seconds: dict[int, str] = {}


def parse_time(text: str) -> int:
    """The microseconds since 1970-01-01 UTC of an RFC 3339 time, cut (not rounded) to the microsecond.

    `2026-01-31T12:00:00Z`, with any number of digits after a point following the seconds and with `Z` or an
    offset of up to 23:59 hours; `T` and `Z` are capitals. Leap seconds do not exist.

    Raises `ValueError`, with a message fit for the sender, for any other text, for a day or an hour that does
    not exist, and for an instant outside the years 0000 to 9999 of UTC, which could not be written back.
    """
    match = _RFC_3339.fullmatch(text)
    if match is None:
        raise _invalid(text)
    year, month, day, hour, minute, second = map(int, match.group(1, 2, 3, 4, 5, 6))
    fraction, sign, offset_hour, offset_minute = match.group(7, 8, 9, 10)
    if not 1 <= month <= 12:
        raise _invalid(text, "month out of range")
    try:
        days = date(year or 400, month, day).toordinal() - _ORDINAL_OF_EPOCH
    except ValueError:
        raise _invalid(text, "day out of range") from None
    if year == 0:
        days -= _DAYS_OF_400_YEARS
    if hour > 23:
        raise _invalid(text, "hour out of range")
    if minute > 59:
        raise _invalid(text, "minute out of range")
    if second > 59:
        raise _invalid(text, "second out of range")
    seconds = days * 86_400 + hour * 3_600 + minute * 60 + second
    if sign:
        if offset_hour > "23" or offset_minute > "59":
            raise _invalid(text, "offset out of range, -23:59 to +23:59")
        offset = int(offset_hour) * 3_600 + int(offset_minute) * 60
        seconds += offset if sign == "-" else -offset
    microseconds = seconds * 1_000_000
    if fraction:
        microseconds += int(fraction[:6].ljust(6, "0"))
    if not MIN_TIME <= microseconds <= MAX_TIME:
        raise _invalid(text, "outside the years 0000 to 9999 in UTC")
    return microseconds


def format_time(microseconds: int) -> str:
    """The RFC 3339 text, in UTC with `Z`, of so many microseconds since 1970-01-01 UTC.

    The fraction has no trailing zeros and is left out when it is zero: `2031-05-05T05:05:05.5Z`.

    Raises `ValueError` outside `MIN_TIME` to `MAX_TIME`.
    """
    # The most called function of the server: every answer holds a handful of times.
    seconds, fraction = divmod(microseconds, 1_000_000)
    text = _seconds.get(seconds) or _format_second(seconds)
    if not fraction:
        return text + "Z"
    if fraction % 10:
        return f"{text}.{_THREE_DIGITS[fraction // 1_000]}{_THREE_DIGITS[fraction % 1_000]}Z"
    return f"{text}.{fraction:06d}".rstrip("0") + "Z"


def _format_second(seconds: int) -> str:
    """`YYYY-MM-DDTHH:MM:SS` of a second since 1970-01-01 UTC, and remember it."""
    if not MIN_TIME // 1_000_000 <= seconds <= MAX_TIME // 1_000_000:
        raise ValueError(f"cannot write a time {seconds} seconds from 1970: outside the years 0000 to 9999")
    days, second_of_day = divmod(seconds, 86_400)
    ordinal = days + _ORDINAL_OF_EPOCH
    if ordinal > 0:
        day = date.fromordinal(ordinal).isoformat()
    else:
        day = "0000" + date.fromordinal(ordinal + _DAYS_OF_400_YEARS).isoformat()[4:]
    minutes, second = divmod(second_of_day, 60)
    hour, minute = divmod(minutes, 60)
    text = f"{day}T{hour:02d}:{minute:02d}:{second:02d}"
    if len(_seconds) >= _CACHED_SECONDS:
        _seconds.clear()
    _seconds[seconds] = text
    return text


def _invalid(text: str, reason: str = "") -> ValueError:
    found = f"{reason}; " if reason else ""
    return ValueError(f"invalid time {quoted(text)}: {found}write RFC 3339, such as 2026-01-31T12:00:00Z")
