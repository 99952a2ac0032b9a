"""When a schedule ticks: cron expressions in time zones, and intervals.

A local time that does not exist, because the clocks jump over it, stands for the moment at which they jump.
One that comes twice, because the clocks are set back, counts the first time. But an expression that names
every hour ticks in every hour that passes, whatever the clocks say.

Times are microseconds since 1970-01-01 UTC.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

from ratus.core.clock import SECOND
from ratus.core.durations import format_duration
from ratus.core.quoting import quoted
from ratus.core.records import ScheduleRecord
from ratus.core.times import format_time

MOST_CAUGHT_UP: Final = 1_000
"""Missed ticks that ``catch_up`` ``all`` makes up, the newest."""

SHORTEST_INTERVAL: Final = SECOND
"""Microseconds of the shortest ``every``."""

SCHEDULED_MEMBERS: Final = ("payload", "priority", "retry", "labels", "ttl", "producer")
"""What a schedule says of its tasks; all else follows from the tick."""

ALLOW, SKIP = "allow", "skip"
LAST, ALL = "last", "all"

_MAX_EXPRESSION: Final = 256
_ALIASES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
}
_EVERY_HOUR: Final = frozenset(range(24))

# Local times are computed as if they were of UTC, for which `CronSim` knows no changes of the clock.
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)

# Seconds. No zone has changed its offset by more than a day.
_AROUND: Final = 26 * 3600
_DAY: Final = 24 * 3600
_LAST_SECOND: Final = int((datetime(9999, 12, 30, tzinfo=UTC) - _EPOCH).total_seconds())


def check_cron(expression: str) -> None:
    """Raise `ValueError`, which says which part is wrong, unless it is an expression that comes some time."""
    if len(expression) > _MAX_EXPRESSION:
        raise ValueError(f"an expression has at most {_MAX_EXPRESSION} characters")
    if expression.startswith("@") and expression.lower() not in _ALIASES:
        raise ValueError(f"{quoted(expression)} is unknown; use {', '.join(_ALIASES)} or five fields")
    fields = _fields(expression)
    if len(fields.split()) not in (5, 6):
        raise ValueError(
            f"{quoted(expression)} has {len(fields.split())} fields; give five (minute, hour, day of month, "
            "month, day of week), or six with seconds first"
        )
    try:
        comes = next(CronSim(fields, _SOME_DAY), None)
    except CronSimError as error:
        part = str(error).removeprefix("Bad ")
        raise ValueError(
            f"{quoted(expression)}: the field {part} is wrong, or no month has such a day"
        ) from None
    if comes is None:
        raise ValueError(f"{quoted(expression)} never comes: no day is like that")


def check_zone(name: str) -> None:
    """Raise `ValueError` unless it is the IANA name of a time zone."""
    try:
        _zone(name)
    except (KeyError, ValueError, OSError):  # a name that leads to a folder, or out of it, as well
        raise ValueError(f"{quoted(name)} is no time zone; give an IANA name such as Europe/Berlin") from None


def next_tick(schedule: ScheduleRecord, after: int) -> int | None:
    """The first tick after a time; ``None`` when there is none any more."""
    if schedule.start is not None and after < schedule.start:
        after = schedule.start - 1
    if schedule.every is not None:
        start = schedule.start or 0
        tick = start + ((after - start) // schedule.every + 1) * schedule.every
    else:
        seconds = _next_of_cron(_fields(schedule.cron), _zone(schedule.zone or "UTC"), after // SECOND)
        if seconds is None:
            return None
        tick = seconds * SECOND
    return None if schedule.end is not None and tick > schedule.end else tick


def newest_ticks(schedule: ScheduleRecord, first: int, until: int, most: int) -> list[int]:
    """The last ``most`` ticks from ``first`` to ``until``, both included, in their order.

    ``first`` is a tick. It costs what some times ``most`` ticks cost, however many there are in all.
    """
    span = SECOND * 60
    while True:
        begin = max(first, until - span)
        found: list[int] = [first] if begin == first else []
        tick = next_tick(schedule, begin if begin == first else begin - 1)
        while tick is not None and tick <= until:
            found.append(tick)
            tick = next_tick(schedule, tick)
        if len(found) >= most or begin == first:
            return found[-most:]
        span *= 4


def in_words(schedule: ScheduleRecord) -> str:
    """The expression or interval as a sentence."""
    if schedule.every is not None:
        start = "" if schedule.start is None else f", counted from {format_time(schedule.start)}"
        return f"Every {format_duration(schedule.every)}{start}"
    words = CronSim(_fields(schedule.cron), _SOME_DAY).explain()
    return f"{words}, in {schedule.zone or 'UTC'}"


def task_id(name: str, tick: int) -> str:
    """The id of the task of a tick."""
    return f"{name}@{format_time(tick)}"


def ticks_to_text(ticks: list[int]) -> bytes | None:
    """Ticks as a record keeps them."""
    return json.dumps(ticks).encode() if ticks else None


def ticks_from_text(text: bytes | None) -> list[int]:
    """Ticks as `ticks_to_text` wrote them."""
    return [] if text is None else [int(tick) for tick in json.loads(text)]


# ---- cron -----------------------------------------------------------------------------------------


def _fields(expression: str) -> str:
    return _ALIASES.get(expression.lower(), expression)


@lru_cache(maxsize=64)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _offset(zone: ZoneInfo, seconds: int) -> int:
    """By how many seconds local time is ahead of UTC at a time of UTC."""
    offset = (_EPOCH + timedelta(seconds=seconds)).astimezone(zone).utcoffset()
    assert offset is not None, "a zone has an offset at any time"
    return int(offset.total_seconds())


def _next_of_cron(fields: str, zone: ZoneInfo, after: int) -> int | None:
    """The first time after ``after``, both in seconds of UTC."""
    try:
        if CronSim(fields, _EPOCH).hours >= _EVERY_HOUR:
            return _next_of_any_hour(fields, zone, after)
        return _next_of_some_hours(fields, zone, after)
    except OverflowError:  # behind the year 9999
        return None


def _candidate(fields: str, local: int) -> int | None:
    """The first local time after a local time at which the expression comes; both without any zone."""
    found = next(CronSim(fields, _EPOCH + timedelta(seconds=local)), None)
    if found is None:
        return None
    seconds = int((found - _EPOCH).total_seconds())
    return seconds if seconds < _LAST_SECOND else None


def _next_of_any_hour(fields: str, zone: ZoneInfo, after: int) -> int | None:
    """Where each hour that passes counts: local times are looked for with one offset after the other."""
    while True:
        offset = _offset(zone, after)
        local = _candidate(fields, after + offset)
        if local is None:
            return None
        change = _next_change(zone, after, local - offset)
        if change is None:
            return local - offset
        # The first moment with the new offset counts, too.
        after = change - 1
        local = _candidate(fields, after + _offset(zone, change))
        if local is None:
            return None
        found = local - _offset(zone, change)
        if found == change:
            return found
        after = change


def _next_of_some_hours(fields: str, zone: ZoneInfo, after: int) -> int | None:
    """Where certain hours count: each local time is one moment."""
    before, behind = _offset(zone, after - _AROUND), _offset(zone, after + _AROUND)
    here = _offset(zone, after)
    local = after + here - max(before, here, behind) + min(before, here, behind)
    while True:
        found = _candidate(fields, local)
        if found is None:
            return None
        moment = _moment(zone, found)
        if moment > after:
            return moment
        local = found


def _moment(zone: ZoneInfo, local: int) -> int:
    """When a local time comes: the first time, or else when the clocks jump over it."""
    reading = _EPOCH + timedelta(seconds=local)
    first, second = (
        int(reading.replace(tzinfo=zone, fold=fold).astimezone(UTC).timestamp()) for fold in (0, 1)
    )
    # In a gap, the offset from before it gives a moment behind the jump, the other one a moment before it.
    if second >= first:
        return first
    jump = _next_change(zone, second, first)
    return first if jump is None else jump


def _next_change(zone: ZoneInfo, after: int, until: int) -> int | None:
    """When, after one time and up to another, the zone changes its offset for the first time."""
    offset = _offset(zone, after)
    low = after
    while low < until:
        high = min(low + _DAY, until)
        if _offset(zone, high) != offset:
            while high - low > 1:
                middle = (low + high) // 2
                if _offset(zone, middle) == offset:
                    low = middle
                else:
                    high = middle
            return high
        low = high
    return None
