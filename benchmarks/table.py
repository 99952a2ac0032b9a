"""Figures as rows: printed as a table for people, kept for a CSV file."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    """Print rows that have the same columns."""
    print(f"\n## {title}\n")
    if not rows:
        print("nothing was measured")
        return
    columns = list(rows[0])
    texts = [[_text(row[column]) for column in columns] for row in rows]
    widths = [max(map(len, column)) for column in zip(columns, *texts, strict=True)]
    for line in (columns, ["-" * width for width in widths], *texts):
        print("| " + " | ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) + " |")


def save(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write rows as CSV."""
    rows = list(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)
