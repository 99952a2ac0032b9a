"""What the listener and the observer are notified of once a transaction is on disk."""

from __future__ import annotations

from collections.abc import Sequence

from ratus.core.records import TaskRecord
from ratus.core.transitions import Event
from ratus.core.turns import Reason

# Tasks of a topic of which a transaction notifies one by one; of more, it says that any claim may succeed.
FEW = 8


class Notifications:
    """Topics in which something became available, ids of tasks that were settled, and events by topic.

    ``available`` has for each topic the tasks that became pending, ``None`` where any claim may succeed.
    ``refused``: topics in which a claim was refused, and why; ``building``: topics whose lanes are not built
    yet.
    """

    __slots__ = ("available", "building", "events", "refused", "settled")

    def __init__(self) -> None:
        self.available: dict[str, list[TaskRecord] | None] = {}
        self.settled: list[str] = []
        self.events: list[tuple[str, Sequence[Event]]] = []
        self.refused: list[tuple[str, Reason]] = []
        self.building: set[str] = set()

    def add_available(self, topic: str, task: TaskRecord | None) -> None:
        """Notify that a claim may succeed; ``task``: of this task, ``None``: of any."""
        tasks = self.available.setdefault(topic, [])
        if tasks is None:
            return
        if task is None or len(tasks) == FEW:
            self.available[topic] = None
        else:
            tasks.append(task)

    def add(self, other: Notifications) -> None:
        """Append the notifications of another transaction."""
        for topic, tasks in other.available.items():
            for task in tasks or (None,):
                self.add_available(topic, task)
        self.settled += other.settled
        self.events += other.events
        self.refused += other.refused
        self.building |= other.building
