"""Which pending tasks are due, also after the clock was set back.

A task is due when its ``scheduled`` is not after now. Where the clock is set back, a task that was due stays
so: one whose ``scheduled`` is not after the moment at which it may have become pending last, when it was
accepted, claimed (and given back, or lapsed) or committed. A task that was not due then waits for its time.
So does one that is scheduled anew while the clock is behind, which gets the field ``waits``.

Queries ask for this only while the clock is behind the latest time that this server has seen. Then MongoDB
reads the documents of tasks that are scheduled between the two; as a rule it reads the index alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ratus.core.records import ACTIVE, PENDING
from ratus.core.transitions import claimable
from ratus_engines.mongodb import indexes
from ratus_engines.mongodb.documents import Document, conditions, date, record

# Microseconds by which the times of requests differ that come together, at the most: they are carried out in
# any order. A clock that is further behind was set back.
_TOGETHER = 500_000

WAITS = "waits"

_LAST_PENDING = {"$max": ["$produced", "$consumed", "$committed"]}

# What `Due.is_due` looks at, beside ``scheduled``.
_MEMBERS = {"produced": 1, "consumed": 1, "committed": 1, WAITS: 1}


class Due:
    """Remembers the latest time, and says what is due."""

    def __init__(self) -> None:
        self._now = self._latest = 0

    def note(self, now: int) -> None:
        """Note the time of a request, in microseconds."""
        self._now = now
        self._latest = max(self._latest, now)

    def mark(self, changes: Document | list[Document]) -> None:
        """Add the field ``waits`` to an update that schedules a task anew while the clock is behind."""
        members = (changes if isinstance(changes, dict) else changes[0])["$set"]
        if "scheduled" in members and self.is_back(self._now):
            members[WAITS] = True

    @property
    def latest(self) -> int:
        """The latest time that was seen."""
        return self._latest

    def is_back(self, now: int) -> bool:
        """Whether the clock is behind the latest time."""
        return self._latest - now >= _TOGETHER

    def scheduled(self, now: int) -> Document:
        """The condition on when a due task is scheduled."""
        if not self.is_back(now):
            return {"scheduled": {"$lte": date(now)}}
        return {
            "scheduled": {"$lte": date(self._latest)},
            "$or": [
                {"scheduled": {"$lte": date(now)}},
                {WAITS: None, "$expr": {"$lte": ["$scheduled", _LAST_PENDING]}},
            ],
        }

    def condition(self, topic: str, now: int) -> Document:
        """The condition for tasks that may be claimed in a topic."""
        return {
            "topic": topic,
            **conditions(claimable(now)),
            **self.scheduled(now),
        }

    def projection(self, now: int) -> Document:
        """The fields that `is_due` looks at. As a rule the index has them."""
        return {"scheduled": 1, **(_MEMBERS if self.is_back(now) else {})}

    def is_due(self, found: Mapping[str, Any], now: int) -> bool:
        """Whether a pending task is due. ``found`` is its document with the fields of `projection`."""
        task = record(found)
        if task.scheduled <= now:
            return True
        last_pending = max(task.produced, task.consumed or 0, task.committed or 0)
        return self.is_back(now) and WAITS not in found and task.scheduled <= last_pending

    def kept(self, now: int) -> list[tuple[Document, str]]:
        """Conditions, each with its index, for tasks that are due only because they were before the clock was
        set back, or may be when they are released."""
        was_due = {WAITS: None, "$expr": {"$lte": ["$scheduled", _LAST_PENDING]}}
        between = {"$gt": date(now), "$lte": date(self._latest)}
        return [
            ({"topic": {"$gte": ""}, "state": PENDING, "scheduled": between, **was_due}, indexes.CLAIMS),
            ({"state": ACTIVE, "consumed": {"$gt": date(now)}}, indexes.DEADLINE),
        ]

    def forget(self, now: int) -> None:
        """Take ``now`` for the latest time. For when no task is due only because it was before."""
        self._latest = now
