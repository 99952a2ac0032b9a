"""What each operation of the API does, in words and examples, by its operation id."""

from __future__ import annotations

from typing import Final

from scripts.openapi.operations import promises, schedules, service, tasks, topics, values
from scripts.openapi.operations.operation import Answer, Body, Operation

OPERATIONS: Final[dict[str, Operation]] = {
    **topics.OPERATIONS,
    **tasks.OPERATIONS,
    **promises.OPERATIONS,
    **schedules.OPERATIONS,
    **values.OPERATIONS,
    **service.OPERATIONS,
}

TAGS: Final = (topics.TAG, tasks.TAG, promises.TAG, schedules.TAG, values.TAG, service.TAG)
"""The groups of operations, each with a name and a description."""

__all__ = ["OPERATIONS", "TAGS", "Answer", "Body", "Operation"]
