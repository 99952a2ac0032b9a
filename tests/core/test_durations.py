"""Go durations: the grammar, the limits, the way back, and agreement with a slow and simple reference."""

from __future__ import annotations

import time
from fractions import Fraction

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ratus.core.durations import format_duration, parse_duration
from ratus.core.quoting import quoted

MILLISECOND = 1_000
SECOND = 1_000_000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
# What fits a signed 64-bit number of nanoseconds.
LONGEST = (2**63 - 1) // 1_000

UNITS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,
    "\u03bcs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3_600 * 10**9,
}


def reference(text: str) -> int | None:
    """The microseconds of `text`, None when it is no duration: by the letter, with exact fractions."""
    rest = text[1:] if text[:1] in {"+", "-"} else text
    if rest == "0":
        return 0
    total = 0
    parts = 0
    while rest:
        number = ""
        while rest and rest[0] in "0123456789.":
            if rest[0] == "." and "." in number:
                break
            number, rest = number + rest[0], rest[1:]
        unit = ""
        while rest and rest[0] not in "0123456789.":
            unit, rest = unit + rest[0], rest[1:]
        if number in {"", "."} or unit not in UNITS:
            return None
        total += int(Fraction("0" + number.rstrip(".")) * UNITS[unit])
        parts += 1
    sign = -1 if text.startswith("-") else 1
    if not parts or not -(2**63) <= sign * total < 2**63:
        return None
    return sign * (total // 1_000)


def parsed(text: str) -> int | None:
    try:
        return parse_duration(text)
    except ValueError:
        return None


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0", 0),
        ("+0", 0),
        ("-0", 0),
        ("0s", 0),
        ("-0h", 0),
        ("5s", 5 * SECOND),
        ("+5s", 5 * SECOND),
        ("-5s", -5 * SECOND),
        ("5.0s", 5 * SECOND),
        ("5.s", 5 * SECOND),
        (".5s", SECOND // 2),
        ("-.5s", -SECOND // 2),
        ("1.5s", 3 * SECOND // 2),
        ("1.004s", SECOND + 4 * MILLISECOND),
        ("100.00100s", 100 * SECOND + MILLISECOND),
        ("007s", 7 * SECOND),
        ("300ms", 300 * MILLISECOND),
        ("11us", 11),
        ("12\u00b5s", 12),
        ("12\u03bcs", 12),
        ("10000ns", 10),
        ("14s", 14 * SECOND),
        ("15m", 15 * MINUTE),
        ("16h", 16 * HOUR),
        ("1h30m", HOUR + 30 * MINUTE),
        ("1m0.5s", MINUTE + SECOND // 2),
        ("10.5s4m", 4 * MINUTE + 10 * SECOND + SECOND // 2),
        ("-2m3.4s", -(2 * MINUTE + 3 * SECOND + 400 * MILLISECOND)),
        ("1h2m3s4ms5us6000ns", HOUR + 2 * MINUTE + 3 * SECOND + 4 * MILLISECOND + 11),
        ("1s.5s", 3 * SECOND // 2),
        ("1s1s1s", 3 * SECOND),
        ("0.3333333333333333333h", 20 * MINUTE - 1),
        ("0.100000000000000000000h", 6 * MINUTE),
        ("39h9m14.425s", 39 * HOUR + 9 * MINUTE + 14 * SECOND + 425 * MILLISECOND),
    ],
)
def test_reads_every_form(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("999ns", 0),
        ("-999ns", 0),
        ("1999ns", 1),
        ("-1999ns", -1),
        # The sum counts, not the parts.
        ("600ns400ns", 1),
        ("-0.0000006s400ns", -1),
        # But a part below the nanosecond is gone before the sum.
        ("999ns0.9ns0.9ns", 0),
    ],
)
def test_cuts_to_the_microsecond_towards_zero(text: str, microseconds: int) -> None:
    assert parse_duration(text) == microseconds


@pytest.mark.parametrize(
    "text",
    [
        "9223372036854775807ns",
        "9223372036854775.807us",
        "9223372036854ms775us807ns",
        "2562047h47m16.854775807s",
    ],
)
def test_reads_up_to_64_bits_of_nanoseconds(text: str) -> None:
    assert parse_duration(text) == LONGEST
    assert parse_duration("-" + text) == -LONGEST


@pytest.mark.parametrize(
    "text", ["9223372036854775808ns", "9223372036854775.808us", "2562047h47m16.854775808s"]
)
def test_the_smallest_64_bit_number_exists_only_as_a_negative(text: str) -> None:
    assert parse_duration("-" + text) == -LONGEST
    with pytest.raises(ValueError, match="out of range"):
        parse_duration(text)


@pytest.mark.parametrize(
    "text",
    [
        "99999999h",
        "-99999999h",
        "-9223372036854775809ns",
        "9223372036854775.809us",
        "2562047h47m17s",
        "3000000000000000000000000h",
        "9223372036854775807ns1ns",
    ],
)
def test_refuses_what_does_not_fit(text: str) -> None:
    with pytest.raises(
        ValueError, match=f'^invalid duration "{text}": out of range, .*; write a number with'
    ):
        parse_duration(text)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "it is empty"),
        ("-", "no number after the sign"),
        ("+", "no number after the sign"),
        ("x", 'no number before "x"'),
        ("abc", 'no number before "abc"'),
        ("s", 'no number before "s"'),
        (".", 'no number before "."'),
        ("-.", 'no number before "."'),
        (".s", 'no number before ".s"'),
        ("+.s", 'no number before ".s"'),
        ("--5s", 'no number before "-5s"'),
        ("+-5s", 'no number before "-5s"'),
        (" 5s", 'no number before " 5s"'),
        ("1s.", 'no number before "."'),
        ("\u0665s", 'no number before "\u0665s"'),
        ("10", 'no unit after "10"'),
        ("1", 'no unit after "1"'),
        ("00", 'no unit after "00"'),
        ("0.0", 'no unit after "0.0"'),
        ("1.", 'no unit after "1."'),
        ("1h30", 'no unit after "30"'),
        ("1.5.5s", 'no unit after "1.5"'),
        ("1d", 'unknown unit "d"'),
        ("1D", 'unknown unit "D"'),
        ("1S", 'unknown unit "S"'),
        ("1w", 'unknown unit "w"'),
        ("1sec", 'unknown unit "sec"'),
        ("1h 30m", 'unknown unit "h "'),
        ("1 h", 'unknown unit " h"'),
        ("5s ", 'unknown unit "s "'),
        ("5s\n", r'unknown unit "s\n"'),
        ("1h-30m", 'unknown unit "h-"'),
        ("1,5s", 'unknown unit ","'),
        ("1e3s", 'unknown unit "e"'),
        ("1_000s", 'unknown unit "_"'),
        ("5\x00s", r'unknown unit "\x00s"'),
        ("5\ud800", r'unknown unit "\ud800"'),
    ],
)
def test_refuses_by_name(text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=r"^invalid duration ") as caught:
        parse_duration(text)
    assert str(caught.value) == (
        f"invalid duration {quoted(text)}: {reason}; write a number with a unit such as 300ms, 1.5s or 1h30m"
    )


@pytest.mark.parametrize("text", ["1" * 1_000_000, "1s" * 500_000, "0." + "1" * 1_000_000 + "s", "x" * 129])
def test_refuses_long_text_at_once_and_quotes_little_of_it(text: str) -> None:
    started = time.process_time()
    with pytest.raises(ValueError, match="longer than 128 characters") as caught:
        parse_duration(text)
    assert time.process_time() - started < 0.1
    assert len(str(caught.value)) < 250


def test_reads_text_of_the_greatest_length() -> None:
    assert parse_duration("0" * 126 + "1s") == SECOND


@given(
    st.sampled_from(["", "+", "-"]),
    st.lists(
        st.tuples(
            st.integers(0, 10**8).map(str) | st.just(""),
            st.text("0123456789", max_size=12).map(lambda digits: "." + digits) | st.just(""),
            st.sampled_from(list(UNITS)),
        ),
        max_size=4,
    ),
)
def test_agrees_with_the_reference_on_durations(sign: str, parts: list[tuple[str, str, str]]) -> None:
    text = sign + "".join(whole + fraction + unit for whole, fraction, unit in parts)
    assert parsed(text) == reference(text)


@given(st.text("0123456789.+-hmsnu\u00b5\u03bc d", max_size=12))
@example("0")
@example("1h 30m")
def test_agrees_with_the_reference_on_what_is_a_duration(text: str) -> None:
    assert parsed(text) == reference(text)


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    message = ""
    try:
        parse_duration(text)
    except ValueError as error:
        message = str(error)
    assert message.isprintable()  # fit for a log and an answer: no control characters, no lone surrogates


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, "0s"),
        (1, "1\u00b5s"),
        (250, "250\u00b5s"),
        (-250, "-250\u00b5s"),
        (999, "999\u00b5s"),
        (1_000, "1ms"),
        (1_100, "1.1ms"),
        (1_001, "1.001ms"),
        (300_000, "300ms"),
        (999_999, "999.999ms"),
        (SECOND, "1s"),
        (10 * SECOND, "10s"),
        (1_500_000, "1.5s"),
        (-1_500_000, "-1.5s"),
        (1_000_001, "1.000001s"),
        (MINUTE - 1, "59.999999s"),
        (MINUTE, "1m0s"),
        (4 * MINUTE + 5 * SECOND, "4m5s"),
        (4 * MINUTE + 5_001_000, "4m5.001s"),
        (10 * MINUTE, "10m0s"),
        (HOUR, "1h0m0s"),
        (HOUR + 30 * MINUTE, "1h30m0s"),
        (5 * HOUR + 6 * MINUTE + 7_001_000, "5h6m7.001s"),
        (72 * HOUR, "72h0m0s"),
        (LONGEST, "2562047h47m16.854775s"),
        (-LONGEST, "-2562047h47m16.854775s"),
    ],
)
def test_writes_as_go_does(microseconds: int, text: str) -> None:
    assert format_duration(microseconds) == text


@given(st.integers(-LONGEST, LONGEST))
def test_reads_back_what_it_wrote(microseconds: int) -> None:
    assert parse_duration(format_duration(microseconds)) == microseconds
