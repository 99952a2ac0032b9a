"""Results for people and for programs: tables, JSON lines, progress. Text from the server is escaped."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Final, Self, TextIO

from ratus.core.models import Lane, Task, Topic
from ratus.core.quoting import printable

_WIDEST: Final = 40
"""Characters of a cell at most; payloads can be long, and the JSON output has them whole."""

_CLAIM_HEAD: Final = ("ID", "TOPIC", "HELD BY", "SINCE (UTC)", "UNTIL (UTC)", "ATTEMPTS", "PAYLOAD")

_REFRESH_SECONDS: Final = 0.1

_BAR: Final = 24
"""Characters of a progress bar."""


def wants_table(choice: str | None) -> bool:
    """Whether to write a table: where it was asked for, and by default on a terminal."""
    return sys.stdout.isatty() if choice is None else choice == "table"


def json_line(value: Mapping[str, Any]) -> str:
    """One object on one line, in characters that standard output can take."""
    utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    text = json.dumps(value, ensure_ascii=not utf8, separators=(",", ":"))
    if text.isprintable():
        return text
    # JSON lets control characters beyond ASCII through; a terminal might obey them.
    return "".join(c if c.isprintable() else json.dumps(c)[1:-1] for c in text)


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a table; columns of numbers are right-aligned."""
    cells = [[_cell(value) for value in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *cells, strict=True)]
    numeric = [all(cell.replace(",", "").isdigit() for cell in column) for column in zip(*cells, strict=True)]
    numeric = numeric or [False] * len(head)
    lines = []
    for row in [list(head), *cells]:
        parts = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        lines.append("  ".join(parts).rstrip())
    return lines


def _cell(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else ""
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S")
    text = printable(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"


def show_tasks(tasks: Iterable[Task], *, as_table: bool, claims: bool = False) -> int:
    """Write tasks; return how many they were. A table of `claims` shows which consumer holds each task."""
    if not as_table:
        count = 0
        for task in tasks:
            print(json_line(task.to_wire()))
            count += 1
        return count
    if claims:
        held = [
            (task.id, task.topic, task.consumer, task.consumed, task.deadline, task.attempts, task.payload)
            for task in tasks
        ]
        print(*table(_CLAIM_HEAD, held), sep="\n")
        return len(held)
    rows = [
        (
            task.id,
            task.topic,
            task.state.name.lower(),
            task.scheduled,
            task.attempts,
            task.payload,
            task.error,
        )
        for task in tasks
    ]
    head = ("ID", "TOPIC", "STATE", "SCHEDULED (UTC)", "ATTEMPTS", "PAYLOAD", "ERROR")
    for line in table(head, rows):
        print(line)
    return len(rows)


def topic_table(topics: Sequence[Topic]) -> list[str]:
    """The lines of a table of topics with their counts."""
    rows = []
    for topic in topics:
        states = topic.states
        counts = (
            (states.pending, states.active, states.completed, states.archived) if states else (0, 0, 0, 0)
        )
        rows.append((topic.name, topic.due or 0, *counts, closing(topic)))
    return table(("TOPIC", "DUE", "PENDING", "ACTIVE", "COMPLETED", "ARCHIVED", "CLOSED"), rows)


def closing(part: Topic | Lane) -> str:
    """Why a topic or a lane hands out nothing, and until when where that is known; empty while it is open."""
    reason = part.closed or ("paused" if isinstance(part, Topic) and part.paused else "")
    return f"{reason} until {_cell(part.reopens)} UTC" if part.reopens else reason


class Progress:
    """Shows how far a long push has come, on one line of a terminal; nothing where `stream` is no terminal.

    `size`: the bytes there are to read, `None` where that is not known.
    """

    def __init__(self, stream: TextIO, size: int | None) -> None:
        self._stream = stream
        self._size = size
        self._shown = stream.isatty()
        self._begun = time.monotonic()
        self._next = 0.0
        self._width = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._width:
            print(file=self._stream, flush=True)

    def update(self, tasks: int, position: int, *, last: bool = False) -> None:
        """Show how many tasks are pushed. `position`: how many bytes of the input are read.

        Calls in quick succession show nothing, except the `last` one.
        """
        now = time.monotonic()
        if not self._shown or (now < self._next and not last):
            return
        self._next = now + _REFRESH_SECONDS
        rate = tasks / max(now - self._begun, 1e-6)
        line = f"{tasks:,} tasks, {rate:,.0f}/s"
        if self._size:
            share = min(position / self._size, 1.0)
            full = round(share * _BAR)
            line = f"[{'#' * full}{'-' * (_BAR - full)}] {share:4.0%}  {line}"
        line = line[: shutil.get_terminal_size().columns - 1]
        print(f"\r{line.ljust(self._width)}", end="", file=self._stream, flush=True)
        self._width = len(line)
