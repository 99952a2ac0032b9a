"""The text an exception leaves in a task."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratus.calls.failures import MAX_BYTES, describe, shorten


def raised(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return caught


def test_the_exception_comes_first_then_its_traceback() -> None:
    text = describe(raised(KeyError("missing")))
    line, _, trace = text.partition("\n\n")
    assert line == "KeyError: 'missing'"
    assert trace.startswith("Traceback (most recent call last):")
    assert trace.endswith("KeyError: 'missing'")
    assert "in raised" in trace


def test_causes_are_told() -> None:
    try:
        try:
            raise KeyError("first")
        except KeyError as cause:
            raise ValueError("second") from cause
    except ValueError as error:
        text = describe(error)
    assert text.startswith("ValueError: second")
    assert "KeyError: 'first'" in text


def test_a_long_traceback_keeps_its_beginning_and_its_end() -> None:
    text = describe(raised(ValueError("x" * 20_000 + "the end")))
    assert len(text.encode()) <= MAX_BYTES
    assert text.startswith("ValueError: xxx")
    assert text.endswith("the end")
    assert "shortened" in text


@given(st.text(max_size=9_000))
def test_any_text_fits_and_can_be_written(text: str) -> None:
    short = shorten(text)
    assert len(short.encode()) <= MAX_BYTES
    if len(text) < MAX_BYTES // 4:
        assert short == text.encode("utf-8", "backslashreplace").decode()


def test_lone_surrogates_are_written_out() -> None:
    assert shorten("a\ud800b") == "a\\ud800b"


def test_an_exception_that_cannot_be_shown() -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert "Odd" in describe(raised(Odd()))
