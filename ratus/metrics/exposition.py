"""The Prometheus text format, version 0.0.4, written in slices.

prometheus_client's ``generate_latest`` writes everything in one go, 0.9 s for a thousand topics, and no
request is answered meanwhile. Here the text is made in pieces, and the event loop has its turn after each.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping

from prometheus_client.utils import floatToGoString

from ratus.metrics.series import Histogram

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
"""The Content-Type of what is written here."""

# A slice ends at whichever comes first. Either is about half a millisecond of work: the time goes with the
# length of the text where there is some, and with the number of series looked at where most have no sample.
SLICE_CHARACTERS = 128 * 1024
SLICE_SERIES = 500

# From here on `format_value` writes a number with an exponent, as Go does.
_EXPONENT_FROM = 1_000_000

format_value: Callable[[float], str] = floatToGoString
"""A number as every Prometheus client writes it."""


def format_count(count: int) -> str:
    """The same as :func:`format_value` for a count, five times as fast for all that are not very large."""
    return f"{count}.0" if count < _EXPONENT_FROM else format_value(count)


def escape_label_value(value: str) -> str:
    """A label value as it stands between its quotes."""
    return value.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


def header(name: str, kind: str, help_text: str) -> str:
    """The HELP and the TYPE line of a metric."""
    escaped = help_text.replace("\\", r"\\").replace("\n", r"\n")
    return f"# HELP {name} {escaped}\n# TYPE {name} {kind}\n"


def sample(name: str, labels: Mapping[str, str], value: float) -> str:
    """The line of one sample. Labels are sorted by their names."""
    if not labels:
        return f"{name} {format_value(value)}\n"
    pairs = ",".join(f'{label}="{escape_label_value(labels[label])}"' for label in sorted(labels))
    return f"{name}{{{pairs}}} {format_value(value)}\n"


def histogram_samples(name: str, before_le: str, after_le: str, histogram: Histogram) -> str:
    """All lines of one histogram: cumulated buckets, count and sum.

    ``before_le`` and ``after_le`` are the labels, escaped, whose names sort before and after ``le``; the
    first ends with a comma and the second starts with one. Both are empty for a histogram without labels.
    """
    labels = before_le + after_le[1:]
    braces = f"{{{labels}}}" if labels else ""
    head = f'{name}_bucket{{{before_le}le="'
    tail = f'"{after_le}}} '
    lines = []
    total = 0
    for bound, count in zip(histogram.labels, histogram.counts, strict=True):
        total += count
        lines.append(f"{head}{bound}{tail}{format_count(total)}\n")
    lines.append(f"{name}_count{braces} {format_count(total)}\n")
    lines.append(f"{name}_sum{braces} {format_value(histogram.sum)}\n")
    return "".join(lines)


async def in_slices(texts: Iterable[str]) -> AsyncIterator[bytes]:
    """Join many short texts into pieces of some size, and let the event loop run after each piece.

    ``texts`` is asked for the next text only when it is needed, so it may be a generator that reads what
    other tasks change. An empty text stands for a series that was looked at and has no sample. What is not
    Unicode (a lone surrogate) becomes a question mark: one bad name must not make all metrics fail.
    """
    piece: list[str] = []
    size = 0
    for text in texts:
        piece.append(text)
        size += len(text)
        if size >= SLICE_CHARACTERS or len(piece) >= SLICE_SERIES:
            if size:
                yield _joined(piece)
            piece = []
            size = 0
            await asyncio.sleep(0)
    if size:
        yield _joined(piece)


def _joined(piece: list[str]) -> bytes:
    return "".join(piece).encode("utf-8", "replace")
