"""The text that an exception leaves in a task's `error`."""

from __future__ import annotations

import traceback
from typing import Final

MAX_BYTES: Final = 8 * 1024
"""What the server keeps of an error."""

_CUT: Final = "\n  … shortened …\n"


def describe(error: BaseException) -> str:
    """The exception in one line, then its traceback; of one that is too long the middle is left out.

    The line comes first because lists show the beginning, and the end of the traceback matters more than
    its middle: it is where the exception was raised.
    """
    try:
        line = "".join(traceback.format_exception_only(error)).strip()
        trace = "".join(traceback.format_exception(error)).strip()
    except BaseException:  # an exception whose own text cannot be made
        line = trace = type(error).__name__
    return shorten(f"{line}\n\n{trace}")


def shorten(text: str) -> str:
    """At most as many bytes as the server keeps, in characters that UTF-8 can write."""
    data = text.encode("utf-8", "backslashreplace")
    if len(data) > MAX_BYTES:
        cut = _CUT.encode()
        head = MAX_BYTES // 4
        data = data[:head] + cut + data[-(MAX_BYTES - head - len(cut)) :]
        # Either cut may have gone through a character, whose remains are dropped.
    return data.decode("utf-8", "ignore")
