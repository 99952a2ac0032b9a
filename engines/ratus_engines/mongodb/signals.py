"""Telling the listener, if there is one, what an operation did to a task."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ratus.engine import Listener
from ratus.records import ACTIVE, PENDING, TaskRecord


class Signals:
    """``listener`` gives the engine's listener as it is at the moment."""

    def __init__(self, listener: Callable[[], Listener | None]) -> None:
        self._listener = listener

    def tell(self, tasks: Iterable[TaskRecord]) -> None:
        """These tasks were written as they are now."""
        listener = self._listener()
        if listener is None:
            return
        topics: dict[str, None] = {}
        for task in tasks:
            if task.state in (PENDING, ACTIVE):
                # Also for an active one: its deadline may be the next thing that a waiting request waits for.
                topics[task.topic] = None
            else:
                listener.settled(task.id)
        for topic in topics:
            listener.available(topic)

    def available(self, topic: str) -> None:
        """Something may be claimed in the topic."""
        if (listener := self._listener()) is not None:
            listener.available(topic)

    def settled(self, ids: Iterable[str]) -> None:
        """These tasks were completed, archived or deleted."""
        if (listener := self._listener()) is not None:
            for task_id in ids:
                listener.settled(task_id)
