"""The text that an exception leaves in a task's `error`."""

from __future__ import annotations

import traceback
from typing import Final

MAX_BYTES: Final = 8 * 1024
"""Bytes that the server keeps of an error."""

_CUT: Final = "\n  … shortened …\n"


def describe(error: BaseException) -> str:
    """The exception in one line, then its traceback; the middle of a text that is too long is left out.

    The line comes first because lists show the beginning, and the end of the traceback matters more than
    its middle: it is where the exception was raised.
    """
    try:
        line = "".join(traceback.format_exception_only(error)).strip()
        trace = "".join(traceback.format_exception(error)).strip()
    except BaseException:  # an exception whose `__str__` raises
        line = trace = type(error).__name__
    return shorten(f"{line}\n\n{trace}")


def shorten(text: str) -> str:
    """The text in at most `MAX_BYTES` of UTF-8; the middle of a longer one is left out."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_BYTES:
        cut = _CUT.encode()
        head = MAX_BYTES // 4
        data = data[:head] + cut + data[-(MAX_BYTES - head - len(cut)) :]
        # Either cut may have gone through a character, whose remains are dropped.
    return data.decode("utf-8", "ignore")
