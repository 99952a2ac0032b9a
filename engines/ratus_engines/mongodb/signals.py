"""Notifies the listener, if there is one, of what happened to a task, once.

A change stream reports this server's own changes, too. The listener must be notified of these only once, so
each own change is matched with a change of the stream, whichever comes first, and the second is left out. A
change that finds no match within some seconds is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ratus.core.records import ACTIVE, PENDING, TaskRecord
from ratus.engine import Listener

# An id and a state, or `DELETED`.
_Event = tuple[str, int]

DELETED = -1

# Seconds for which an event is remembered at least; at the most it is twice as many.
_MEMORY = 3.0


class Signals:
    """Notifies the listener once of each change. ``listener`` returns the engine's present listener."""

    def __init__(self, listener: Callable[[], Listener | None]) -> None:
        self._listener = listener
        self._own = _Recent()
        self._heard = _Recent()
        self.following = False
        """Whether a change stream is open, so that own changes in it have to be recognized."""

    # ---- what this server did --------------------------------------------------------------------

    def notify(self, tasks: Iterable[TaskRecord], *, stored: bool = False) -> None:
        """Notify of tasks that this server has written. ``stored``: as a whole, by an insert or an upsert."""
        listener = self._listener()
        if listener is None and not self.following:
            return
        topics: dict[str, TaskRecord | None] = {}
        for task in tasks:
            # The stream does not report a change that made a task active.
            if (stored or task.state != ACTIVE) and self._was_notified((task.id, task.state)):
                continue
            if task.state in (PENDING, ACTIVE):
                # The deadline of an active one may be the next thing that a waiting request waits for.
                alone = task.state == PENDING and task.topic not in topics
                topics[task.topic] = task if alone else None
            elif listener is not None:
                listener.settled(task.id)
        if listener is not None:
            for topic, only in topics.items():
                listener.available(topic, only)

    def deleted(self, ids: Iterable[str]) -> None:
        """Notify of tasks that this server has deleted."""
        listener = self._listener()
        for task_id in ids:
            if not self._was_notified((task_id, DELETED)) and listener is not None:
                listener.settled(task_id)

    def available(self, topic: str) -> None:
        """Notify that something may be claimed in the topic."""
        if (listener := self._listener()) is not None:
            listener.available(topic)

    def frees(self, topic: str, number: int) -> None:
        """Note that this server frees something of the topic under this number, and notifies of it itself."""
        if self.following:
            self._own.add((topic, number))

    def heard_freed(self, topic: str, number: int) -> None:
        """Notify that something of the topic is free, unless it was this server that freed it."""
        if not self._own.take((topic, number)):
            self.available(topic)

    def follow(self, following: bool) -> None:
        """Note that the change stream was opened or broke. Notifies that changes may have been missed."""
        if following != self.following:
            self.following = following
            self.missed()

    def missed(self) -> None:
        """Notify that changes may have been missed."""
        if (listener := self._listener()) is not None:
            listener.missed()

    def _was_notified(self, event: _Event) -> bool:
        """Whether the stream reported an own change, and the listener was notified, before the answer to the
        write came. If not, the change is remembered."""
        if not self.following:
            return False
        if self._heard.take(event):
            return True
        self._own.add(event)
        return False

    # ---- what was heard of -----------------------------------------------------------------------

    def is_news(self, task_id: str, state: int, *, notified_at_once: bool) -> bool:
        """Whether the listener was not notified yet of a change that the stream reports.

        ``notified_at_once``: the caller then notifies it before anything else runs; so if the change is one
        of this server's own, `notify` leaves it out.
        """
        event = task_id, state
        if self._own.take(event):
            return False
        if notified_at_once:
            self._heard.add(event)
        return True

    def heard_settled(self, task_id: str) -> None:
        """Notify that a task was completed, archived or deleted, by any server."""
        if (listener := self._listener()) is not None:
            listener.settled(task_id)


class _Recent:
    """Counts events of the last seconds."""

    def __init__(self) -> None:
        self._new: dict[_Event, int] = {}
        self._old: dict[_Event, int] = {}
        self._since = time.monotonic()

    def add(self, event: _Event) -> None:
        self._forget()
        self._new[event] = self._new.get(event, 0) + 1

    def take(self, event: _Event) -> bool:
        """Remove one such event. Returns whether there was one."""
        self._forget()
        for events in (self._old, self._new):
            count = events.get(event)
            if count:
                if count == 1:
                    del events[event]
                else:
                    events[event] = count - 1
                return True
        return False

    def _forget(self) -> None:
        now = time.monotonic()
        age = now - self._since
        if age >= _MEMORY:
            self._old = self._new if age < 2 * _MEMORY else {}
            self._new = {}
            self._since = now
