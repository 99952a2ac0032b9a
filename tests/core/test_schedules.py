"""When schedules tick: against dates worked out independently, minute by minute, in six zones."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from ratus.core.records import ScheduleRecord
from ratus.core.schedules import check_cron, check_zone, in_words, newest_ticks, next_tick
from ratus.core.times import format_time, parse_time

SECOND = 1_000_000
# Both changes of summer time of 2026 (2025 for the south), a day before until a day after.
CHANGES = [
    ("Europe/Berlin", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),
    ("America/New_York", "2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"),
    ("Australia/Lord_Howe", "2026-10-03T15:30:00Z", "2026-04-04T15:00:00Z"),  # by half an hour
    ("America/Santiago", "2026-09-06T04:00:00Z", "2026-04-05T03:00:00Z"),  # at midnight
    ("Africa/Cairo", "2026-04-23T22:00:00Z", "2026-10-29T21:00:00Z"),
    ("Asia/Kolkata", "2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z"),  # none
]
SPANS = [(zone, change) for zone, *both in CHANGES for change in both]

# Expressions, the hours that they name (None: every hour) and the minutes.
EXPRESSIONS: list[tuple[str, Callable[[int], bool] | None, Callable[[int], bool]]] = [
    ("30 2 * * *", lambda hour: hour == 2, lambda minute: minute == 30),
    ("0 0 * * *", lambda hour: hour == 0, lambda minute: minute == 0),
    ("15 1 * * *", lambda hour: hour == 1, lambda minute: minute == 15),
    ("*/20 2,3 * * *", lambda hour: hour in (2, 3), lambda minute: minute % 20 == 0),
    ("0 */2 * * *", lambda hour: hour % 2 == 0, lambda minute: minute == 0),
    ("45 23 * * *", lambda hour: hour == 23, lambda minute: minute == 45),
    ("0 * * * *", None, lambda minute: minute == 0),
    ("*/10 * * * *", None, lambda minute: minute % 10 == 0),
    ("30 0 * * * *", None, lambda minute: minute == 0),
]


def walked(
    zone: ZoneInfo,
    hours: Callable[[int], bool] | None,
    minutes: Callable[[int], bool],
    begin: datetime,
    end: datetime,
) -> list[datetime]:
    """The ticks, found by walking through every minute of UTC and looking at the clock on the wall."""
    ticks = []
    seen: set[datetime] = set()
    at, before = begin, (begin - timedelta(minutes=1)).astimezone(zone).replace(tzinfo=None)
    while at <= end:
        wall = at.astimezone(zone).replace(tzinfo=None)
        # The readings that the clock shows now or has jumped over since the minute before.
        shown, reading = [], wall
        if wall > before:
            reading = before + timedelta(minutes=1)
            while reading <= wall:
                shown.append(reading)
                reading += timedelta(minutes=1)
        else:
            shown = [wall]
        if hours is None:
            if minutes(wall.minute):
                ticks.append(at)
        elif any(hours(each.hour) and minutes(each.minute) and each not in seen for each in shown):
            ticks.append(at)
        seen.update(shown)
        at, before = at + timedelta(minutes=1), wall
    return ticks


@pytest.mark.parametrize(("zone", "change"), SPANS)
@pytest.mark.parametrize(("cron", "hours", "minutes"), EXPRESSIONS)
def test_ticks_over_a_change_of_summer_time(
    zone: str, change: str, cron: str, hours: Callable[[int], bool] | None, minutes: Callable[[int], bool]
) -> None:
    moment = datetime.fromisoformat(change)
    begin, end = moment - timedelta(days=1), moment + timedelta(days=1)
    seconds = 30 if len(cron.split()) == 6 else 0
    # Walked from earlier on, so that what comes twice around the beginning is known.
    expected = [
        tick + timedelta(seconds=seconds)
        for tick in walked(ZoneInfo(zone), hours, minutes, begin - timedelta(hours=4), end)
        if tick >= begin
    ]
    schedule = ScheduleRecord(cron=cron, zone=zone)
    found = []
    tick = next_tick(schedule, int(begin.timestamp()) * SECOND - 1)
    while tick is not None and tick <= int(end.timestamp() + seconds) * SECOND:
        found.append(datetime.fromtimestamp(tick / SECOND, UTC))
        tick = next_tick(schedule, tick)
    assert found == expected
    assert expected
    first = int(expected[0].timestamp()) * SECOND
    newest = newest_ticks(schedule, first, int(end.timestamp() + seconds) * SECOND, 3)
    assert newest == [int(each.timestamp()) * SECOND for each in expected[-3:]]


def test_what_a_change_of_summer_time_does() -> None:
    berlin = ScheduleRecord(cron="30 2 * * *", zone="Europe/Berlin")

    def after(text: str) -> str:
        tick = next_tick(berlin, parse_time(text))
        assert tick is not None
        return format_time(tick)

    assert after("2026-03-28T12:00:00Z") == "2026-03-29T01:00:00Z"  # the clocks jump from 2 to 3
    assert after("2026-03-29T01:00:00Z") == "2026-03-30T00:30:00Z"
    assert after("2026-10-24T12:00:00Z") == "2026-10-25T00:30:00Z"  # half past two for the first time
    assert after("2026-10-25T00:30:00Z") == "2026-10-26T01:30:00Z"


@pytest.mark.parametrize(
    ("cron", "after", "tick"),
    [
        ("@yearly", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"),
        ("@monthly", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"),
        ("@weekly", "2026-11-30T00:00:00Z", "2026-12-06T00:00:00Z"),
        ("@DAILY", "2026-11-30T00:00:00Z", "2026-12-01T00:00:00Z"),
        ("@hourly", "2026-11-30T00:00:01Z", "2026-11-30T01:00:00Z"),
        ("0 9 * jan mon", "2026-11-30T00:00:00Z", "2027-01-04T09:00:00Z"),
        ("0 0 29 2 *", "2026-11-30T00:00:00Z", "2028-02-29T00:00:00Z"),
        ("*/5 * * * * *", "2026-11-30T00:00:05.5Z", "2026-11-30T00:00:10Z"),
        ("0 0 L * *", "2026-02-01T00:00:00Z", "2026-02-28T00:00:00Z"),
    ],
)
def test_expressions(cron: str, after: str, tick: str) -> None:
    check_cron(cron)
    found = next_tick(ScheduleRecord(cron=cron), parse_time(after))
    assert found is not None
    assert format_time(found) == tick


@pytest.mark.parametrize(
    ("cron", "problem"),
    [
        ("61 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 32 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day-of-week"),
        ("61 * * * * *", "second"),
        ("0 0 30 2 *", "day-of-month"),
        ("* * */20 * 1L", "never comes"),
        ("* * * *", "has 4 fields"),
        ("", "has 0 fields"),
        ("@fortnightly", "is unknown"),
        ("0," * 200 + "0 * * * *", "256 characters"),
    ],
)
def test_a_wrong_expression_is_named(cron: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        check_cron(cron)


@pytest.mark.parametrize(
    "zone", ["Europe/Berlon", "../etc/passwd", "Europe", "", "\0", "a" * 5000, "/etc/localtime"]
)
def test_a_wrong_zone_is_named(zone: str) -> None:
    with pytest.raises(ValueError, match="is no time zone"):
        check_zone(zone)


def test_an_interval_is_counted_from_its_start() -> None:
    every = ScheduleRecord(every=900 * SECOND)
    assert next_tick(every, 0) == 900 * SECOND
    assert next_tick(every, 899 * SECOND) == 900 * SECOND
    assert next_tick(every, 900 * SECOND) == 1800 * SECOND
    begun = ScheduleRecord(every=10, start=1003, end=1023)
    assert next_tick(begun, 0) == 1003
    assert next_tick(begun, 1003) == 1013
    assert next_tick(begun, 1022) == 1023
    assert next_tick(begun, 1023) is None


def test_a_start_and_an_end_bound_an_expression() -> None:
    start, end = parse_time("2026-11-30T12:00:00Z"), parse_time("2026-11-30T14:00:00Z")
    hourly = ScheduleRecord(cron="@hourly", start=start, end=end)
    ticks = newest_ticks(hourly, start, end + 9 * SECOND, 100)
    assert [format_time(tick) for tick in ticks] == [f"2026-11-30T{hour}:00:00Z" for hour in (12, 13, 14)]
    assert next_tick(hourly, 0) == start
    assert next_tick(hourly, end) is None


def test_the_newest_of_many_missed_ticks() -> None:
    day = 86_400
    each_second = ScheduleRecord(cron="* * * * * *")
    assert newest_ticks(each_second, 0, 365 * day * SECOND, 1) == [365 * day * SECOND]
    found = newest_ticks(each_second, 0, 365 * day * SECOND, 1000)
    assert found == [(365 * day - 999 + number) * SECOND for number in range(1000)]
    yearly = ScheduleRecord(cron="@yearly")
    assert newest_ticks(yearly, 0, parse_time("1975-06-01T00:00:00Z"), 2) == [
        parse_time("1974-01-01T00:00:00Z"),
        parse_time("1975-01-01T00:00:00Z"),
    ]


def test_nothing_comes_behind_the_last_year() -> None:
    assert (
        next_tick(ScheduleRecord(cron="@yearly", zone="Asia/Kolkata"), parse_time("9999-06-01T00:00:00Z"))
        is None
    )


def test_schedules_in_words() -> None:
    assert (
        in_words(ScheduleRecord(cron="30 2 * * *", zone="Europe/Berlin"))
        == "At 02:30 every day, in Europe/Berlin"
    )
    assert in_words(ScheduleRecord(cron="@hourly")) == "At the start of every hour, in UTC"
    assert in_words(ScheduleRecord(every=900 * SECOND)) == "Every 15m0s"
