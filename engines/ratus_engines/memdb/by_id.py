"""Tasks by their id."""

from __future__ import annotations

from ratus.core.records import TaskRecord

# A full dictionary is resized in one step, which moves every entry: 25 to 55 ms with a million tasks. That
# happens at a constant size, too, where as much is deleted as is added. One of a thousand parts is resized in
# about 30 microseconds.
PARTS = 1024

# A dictionary places an entry by the low bits of its hash. If these chose the part as well, all ids of a part
# would share them and collide; so higher bits choose it. The expression is repeated in each method: a call
# would take a tenth of an insert.
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
        """Store a task unless there is one with its id. Returns whether it was stored."""
        task_id = task.id
        part = self._parts[hash(task_id) >> _LOW_BITS & (PARTS - 1)]
        if task_id in part:
            return False
        part[task_id] = task
        return True

    def put(self, task: TaskRecord) -> None:
        """Store a task; it replaces the one with its id, if there is one."""
        self._parts[hash(task.id) >> _LOW_BITS & (PARTS - 1)][task.id] = task

    def remove(self, task: TaskRecord) -> None:
        """Remove the task with the id of ``task``. Raises `KeyError` when there is none."""
        del self._parts[hash(task.id) >> _LOW_BITS & (PARTS - 1)][task.id]
