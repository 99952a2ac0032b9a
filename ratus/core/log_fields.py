"""Structured details of a record in the log."""

from __future__ import annotations

from typing import Any


def fields(**values: object) -> dict[str, Any]:
    """What a log call takes as `extra`: `logger.info("purged", extra=fields(tasks=12, seconds=0.3))`.

    Unlike a bare `extra`, no name can clash with the attributes of a log record (`name`, `args`, `module`).
    """
    return {"fields": values}
