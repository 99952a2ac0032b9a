"""RFC 3339 instants: the grammar, the calendar, the limits, the way back, and agreement with datetime."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core import times
from ratus.core.times import MAX_TIME, MIN_TIME, format_time, parse_time

SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# The calendar repeats itself, weekdays included, after so long.
FOUR_CENTURIES = 146_097 * DAY
YEAR_ONE = (datetime(1, 1, 1, tzinfo=UTC) - EPOCH) // timedelta(microseconds=1)

instants = st.integers(MIN_TIME, MAX_TIME)
offsets = st.integers(-(23 * 60 + 59), 23 * 60 + 59)


def reference(moment: datetime) -> int:
    return (moment - EPOCH) // timedelta(microseconds=1)


def offset_text(minutes: int) -> str:
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00+00:00", 0),
        ("1970-01-01T00:00:00-00:00", 0),
        ("1970-01-01T02:00:00+02:00", 0),
        ("1969-12-31T18:30:00-05:30", 0),
        ("1970-01-01T23:59:00+23:59", 0),
        ("1969-12-31T00:01:00-23:59", 0),
        ("2020-01-01T00:00:00Z", 1_577_836_800 * SECOND),
        ("2020-01-02T00:00:00+02:00", 1_577_836_800 * SECOND + 22 * HOUR),
        ("2020-02-29T23:59:59Z", 1_583_020_799 * SECOND),
        ("2000-02-29T00:00:00Z", 951_782_400 * SECOND),
        ("0000-01-01T00:00:00Z", MIN_TIME),
        ("0000-02-29T00:00:00Z", MIN_TIME + 59 * DAY),
        ("0000-12-31T23:59:59.999999Z", YEAR_ONE - 1),
        ("0001-01-01T00:00:00Z", YEAR_ONE),
        ("9999-12-31T23:59:59.999999999Z", MAX_TIME),
        ("0000-01-01T23:59:00+23:59", MIN_TIME),
        ("9999-12-31T00:00:59.999999-23:59", MAX_TIME),
    ],
)
def test_reads_every_form(text: str, microseconds: int) -> None:
    assert parse_time(text) == microseconds


@pytest.mark.parametrize(
    ("fraction", "microseconds"),
    [
        ("0", 0),
        ("5", 500_000),
        ("05", 50_000),
        ("001", 1_000),
        ("123456", 123_456),
        ("1234569", 123_456),
        ("0000009", 0),
        ("999999999", 999_999),
        ("1" + "0" * 100_000, 100_000),
    ],
)
def test_cuts_to_the_microsecond(fraction: str, microseconds: int) -> None:
    assert parse_time(f"1970-01-01T00:00:00.{fraction}Z") == microseconds
    # Before 1970 too the digits are dropped, not rounded: an instant never moves to a later microsecond.
    assert parse_time(f"1969-12-31T23:59:59.{fraction}Z") == microseconds - SECOND


@pytest.mark.parametrize(
    "text",
    [
        "",
        "now",
        "x",
        "2020",
        "1577836800",
        "2020-01-01",
        "2020-01-01T00:00:00",
        "2020-01-01 00:00:00Z",
        "2020-01-01T00:00Z",
        "2020-01-01T00:00:00z",
        "2020-01-01t00:00:00Z",
        "2020-1-1T00:00:00Z",
        "2020-01-01T0:00:00Z",
        "2020-01-01T00:00:00+0800",
        "2020-01-01T00:00:00+08",
        "2020-01-01T00:00:00+8:00",
        "2020-01-01T00:00:00+08:00:00",
        "2020-01-01T00:00:00 +08:00",
        "2020-01-01T00:00:00\u221208:00",
        "2020-01-01T00:00:00Z+08:00",
        "20200101T000000Z",
        "10000-01-01T00:00:00Z",
        "+2020-01-01T00:00:00Z",
        "-001-01-01T00:00:00Z",
        "020-01-01T00:00:00Z",
        "2020-W01-1T00:00:00Z",
        "2020-001T00:00:00Z",
        " 2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00Z ",
        "2020-01-01T00:00:00Z\n",
        "2020-01-01T00:00:00Z\x00",
        "2020-01-01T00:00:00.Z",
        "2020-01-01T00:00:00,5Z",
        "2020-01-01T00:00:00.5.5Z",
        "2020-01-01T00:00:00.-5Z",
        "2020-01-01T00:00:00.5",
        "2020-01-01T00:00.5Z",
        "2020-01-01T00:00:00 UTC",
        "Wed, 01 Jan 2020 00:00:00 GMT",
        "\u0662\u0660\u0662\u0660-01-01T00:00:00Z",
        "2020-01-01T00:00:0\uff10Z",
        "2020-01-01T00:00:00.\u0665Z",
        "2020\ud80001-01T00:00:00Z",
    ],
)
def test_refuses_what_is_not_rfc_3339(text: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid time ") as caught:
        parse_time(text)
    assert str(caught.value).startswith('invalid time "')
    assert str(caught.value).endswith('": write RFC 3339, such as 2026-01-31T12:00:00Z')
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2020-00-01T00:00:00Z", "month out of range"),
        ("2020-13-01T00:00:00Z", "month out of range"),
        ("2020-01-00T00:00:00Z", "day out of range"),
        ("2020-01-32T00:00:00Z", "day out of range"),
        ("2020-02-30T00:00:00Z", "day out of range"),
        ("2021-02-29T00:00:00Z", "day out of range"),
        ("1900-02-29T00:00:00Z", "day out of range"),
        ("0000-02-30T00:00:00Z", "day out of range"),
        ("2020-04-31T00:00:00Z", "day out of range"),
        ("2020-01-01T24:00:00Z", "hour out of range"),
        ("2020-01-01T00:60:00Z", "minute out of range"),
        ("2020-01-01T00:00:60Z", "second out of range"),
        ("2016-12-31T23:59:60Z", "second out of range"),
        ("2020-01-01T00:00:00+24:00", "offset out of range, -23:59 to +23:59"),
        ("2020-01-01T00:00:00-24:00", "offset out of range, -23:59 to +23:59"),
        ("2020-01-01T00:00:00+99:00", "offset out of range, -23:59 to +23:59"),
        ("2020-01-01T00:00:00+08:60", "offset out of range, -23:59 to +23:59"),
        ("0000-01-01T00:00:00+00:01", "outside the years 0000 to 9999 in UTC"),
        ("0000-01-01T00:00:00+23:59", "outside the years 0000 to 9999 in UTC"),
        ("9999-12-31T23:59:59-00:01", "outside the years 0000 to 9999 in UTC"),
        ("9999-12-31T23:59:59-23:59", "outside the years 0000 to 9999 in UTC"),
    ],
)
def test_names_what_is_out_of_range(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid time ") as caught:
        parse_time(text)
    assert (
        str(caught.value) == f'invalid time "{text}": {reason}; write RFC 3339, such as 2026-01-31T12:00:00Z'
    )


@pytest.mark.parametrize(
    "text",
    [
        "2" * 1_000_000,
        "2020-01-01T00:00:00." + "1" * 1_000_000,
        "2020-02-30T00:00:00." + "1" * 1_000_000 + "Z",
    ],
)
def test_refuses_long_text_at_once_and_quotes_little_of_it(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match=r"^invalid time ") as caught:
        parse_time(text)
    assert time.process_time() - started < 0.2
    assert len(str(caught.value)) < 200


@given(st.text("0123456789-:.TZ+ ,", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    message = ""
    try:
        parse_time(text)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()  # fit for a log and an answer: no control characters, no lone surrogates


@given(st.datetimes(), offsets)
def test_reads_as_datetime_does(moment: datetime, minutes: int) -> None:
    instant = reference(moment.replace(tzinfo=UTC)) - minutes * MINUTE
    text = moment.isoformat(timespec="microseconds") + offset_text(minutes)
    if MIN_TIME <= instant <= MAX_TIME:
        assert parse_time(text) == instant
    else:
        with pytest.raises(ValueError, match="outside the years"):
            parse_time(text)


@given(
    st.integers(0, 9999),
    st.integers(0, 14),
    st.integers(0, 33),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
)
def test_days_and_hours_exist_when_datetime_has_them(
    year: int, month: int, day: int, hour: int, minute: int, second: int
) -> None:
    text = f"{year:04d}-{month:02d}-{day:02d}T{hour:02d}:{minute:02d}:{second:02d}Z"
    shift = 0 if year else FOUR_CENTURIES
    try:
        expected = reference(datetime(year or 400, month, day, hour, minute, second, tzinfo=UTC)) - shift
    except ValueError:
        with pytest.raises(ValueError, match="out of range"):
            parse_time(text)
    else:
        assert parse_time(text) == expected
        assert format_time(expected) == text


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000001Z"),
        (10, "1970-01-01T00:00:00.00001Z"),
        (1_000, "1970-01-01T00:00:00.001Z"),
        (500_000, "1970-01-01T00:00:00.5Z"),
        (999_999, "1970-01-01T00:00:00.999999Z"),
        (120_034, "1970-01-01T00:00:00.120034Z"),
        (-1, "1969-12-31T23:59:59.999999Z"),
        (1_935_723_905_500_000, "2031-05-05T05:05:05.5Z"),
        (1_583_020_799_000_000, "2020-02-29T23:59:59Z"),
        (MIN_TIME, "0000-01-01T00:00:00Z"),
        (MIN_TIME + 59 * DAY, "0000-02-29T00:00:00Z"),
        (MIN_TIME + 60 * DAY, "0000-03-01T00:00:00Z"),
        (YEAR_ONE - 1, "0000-12-31T23:59:59.999999Z"),
        (YEAR_ONE, "0001-01-01T00:00:00Z"),
        (MAX_TIME, "9999-12-31T23:59:59.999999Z"),
    ],
)
def test_writes_utc_without_trailing_zeros(microseconds: int, text: str) -> None:
    assert format_time(microseconds) == text
    assert format_time(microseconds) == text  # now from the cache


@pytest.mark.parametrize("microseconds", [MIN_TIME - 1, MAX_TIME + 1, -(10**30), 10**30])
def test_does_not_write_what_has_no_four_digit_year(microseconds: int) -> None:
    with pytest.raises(ValueError, match="outside the years 0000 to 9999"):
        format_time(microseconds)


@given(instants)
def test_reads_back_what_it_wrote(microseconds: int) -> None:
    assert parse_time(format_time(microseconds)) == microseconds


@given(st.integers(YEAR_ONE, MAX_TIME))
def test_writes_as_datetime_does(microseconds: int) -> None:
    text = (EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=None).isoformat()
    trimmed = text.rstrip("0").rstrip(".") if "." in text else text
    assert format_time(microseconds) == trimmed + "Z"


@given(st.integers(MIN_TIME, YEAR_ONE - 1))
def test_writes_year_0_as_the_year_that_falls_alike(microseconds: int) -> None:
    assert format_time(microseconds) == "0000" + format_time(microseconds + FOUR_CENTURIES)[4:]


@given(instants, offsets)
def test_an_offset_changes_the_text_not_the_instant(microseconds: int, minutes: int) -> None:
    zone = timezone(timedelta(minutes=minutes))
    try:
        local = (EPOCH + timedelta(microseconds=microseconds)).astimezone(zone)
    except OverflowError:
        return  # datetime cannot write it, so it has no opinion
    text = local.replace(tzinfo=None).isoformat() + offset_text(minutes)
    assert parse_time(text) == microseconds


def test_the_cache_of_seconds_stays_small_and_right() -> None:
    for second in range(3 * times._CACHED_SECONDS):
        moment = EPOCH + timedelta(seconds=second)
        assert format_time(second * SECOND) == moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        assert len(times._seconds) <= times._CACHED_SECONDS
