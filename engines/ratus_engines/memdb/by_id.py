"""Tasks by their id."""

from __future__ import annotations

from ratus.core.records import TaskRecord

# A dictionary that is full moves everything in it at once, also one of constant size from which as much is
# deleted as is added: 25 to 55 ms with a million tasks. One of a thousand parts takes some 30 microseconds.
PARTS = 1024

# A dictionary looks at the low bits of a hash first. Were they the same for all ids of a part, these would
# collide; so the part is chosen by higher ones. That is written out in each method: a call would be a tenth
# of an insert.
_LOW_BITS = 40


class ById:
    """A dictionary of tasks that never pauses to grow."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[dict[str, TaskRecord]] = [{} for _ in range(PARTS)]

    def get(self, task_id: str) -> TaskRecord | None:
        """The task of this id, or ``None``."""
        return self._parts[hash(task_id) >> _LOW_BITS & (PARTS - 1)].get(task_id)

    def add(self, task: TaskRecord) -> bool:
        """Keep a task unless there is one of its id. Whether it is kept."""
        task_id = task.id
        part = self._parts[hash(task_id) >> _LOW_BITS & (PARTS - 1)]
        if task_id in part:
            return False
        part[task_id] = task
        return True

    def put(self, task: TaskRecord) -> None:
        """Keep a task, in the place of the one that has its id."""
        self._parts[hash(task.id) >> _LOW_BITS & (PARTS - 1)][task.id] = task

    def remove(self, task: TaskRecord) -> None:
        """Forget the task of this one's id. Raises `KeyError` when there is none."""
        del self._parts[hash(task.id) >> _LOW_BITS & (PARTS - 1)][task.id]
