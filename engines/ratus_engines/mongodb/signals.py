"""Notifies the listener, if there is one, of what happened to a task, once.

A change stream reports this server's own changes, too. The listener was notified of these already, so they
are left out: each own change and each change of the stream are matched, whichever comes first. One that finds
no match within some seconds is forgotten.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from ratus.core.records import ACTIVE, PENDING, TaskRecord
from ratus.engine import Listener

# An id and a state, or `DELETED`.
_Event = tuple[str, int]

DELETED = -1

# Seconds after which an event is forgotten, at the latest after twice as many.
_MEMORY = 3.0


class Signals:
    """``listener`` gives the engine's listener as it is at the moment."""

    def __init__(self, listener: Callable[[], Listener | None]) -> None:
        self._listener = listener
        self._own = _Recent()
        self._heard = _Recent()
        self.following = False
        """Whether changes are heard of, so that own ones have to be known again."""

    # ---- what this server did --------------------------------------------------------------------

    def notify(self, tasks: Iterable[TaskRecord], *, stored: bool = False) -> None:
        """These tasks were written as they are now; ``stored``: whole, not changed."""
        listener = self._listener()
        if listener is None and not self.following:
            return
        topics: dict[str, None] = {}
        for task in tasks:
            # Of a task that was made active by a change, nothing is heard.
            if (stored or task.state != ACTIVE) and self._was_notified((task.id, task.state)):
                continue
            if task.state in (PENDING, ACTIVE):
                # The deadline of an active one may be the next thing that a waiting request waits for.
                topics[task.topic] = None
            elif listener is not None:
                listener.settled(task.id)
        if listener is not None:
            for topic in topics:
                listener.available(topic)

    def deleted(self, ids: Iterable[str]) -> None:
        """These tasks were deleted."""
        listener = self._listener()
        for task_id in ids:
            if not self._was_notified((task_id, DELETED)) and listener is not None:
                listener.settled(task_id)

    def available(self, topic: str) -> None:
        """Something may be claimed in the topic."""
        if (listener := self._listener()) is not None:
            listener.available(topic)

    def follow(self, following: bool) -> None:
        """From now on changes are heard of, or not any more. Some may have been missed in between."""
        if following != self.following:
            self.following = following
            if (listener := self._listener()) is not None:
                listener.missed()

    def _was_notified(self, event: _Event) -> bool:
        """Whether the stream reported this, and the listener was notified, before the answer to the write
        came."""
        if not self.following:
            return False
        if self._heard.take(event):
            return True
        self._own.add(event)
        return False

    # ---- what was heard of -----------------------------------------------------------------------

    def is_news(self, task_id: str, state: int, *, notified_at_once: bool) -> bool:
        """Whether the listener has to be notified of a change of the stream, as it was not yet.

        ``notified_at_once``: the caller does so before anything else happens; the same change of our own is
        then left out.
        """
        event = task_id, state
        if self._own.take(event):
            return False
        if notified_at_once:
            self._heard.add(event)
        return True

    def heard_settled(self, task_id: str) -> None:
        """A task was completed, archived or deleted, by any server."""
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
        """Whether there is such an event; then there is one less."""
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
