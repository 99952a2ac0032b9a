"""Rows as a table for people: on a terminal, and in a document."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.benchmark import Rows


def show(title: str, rows: Rows) -> None:
    """Print rows that have the same columns."""
    print(f"\n## {title}\n", flush=True)
    if not rows:
        print("nothing was measured")
        return
    for line in markdown(rows):
        print(line)


def markdown(rows: Rows) -> Iterator[str]:
    """The lines of a table in Markdown, aligned so that it reads well as text too; figures to the right."""
    columns = list(rows[0])
    texts = [[text(row[column]) for column in columns] for row in rows]
    widths = [max(3, *map(len, column)) for column in zip(columns, *texts, strict=True)]
    figures = [all(isinstance(row[column], int | float | None) for row in rows) for column in columns]
    for number, line in enumerate([columns, *texts]):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(line, widths, figures, strict=True)
        ]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            rules = [
                "-" * (width - 1) + (":" if right else "-")
                for width, right in zip(widths, figures, strict=True)
            ]
            yield f"| {' | '.join(rules)} |"


def text(value: Any) -> str:
    """A value with as many digits as mean something."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        digits = 0 if abs(value) >= 100 else 1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3
        return f"{value:,.{digits}f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
