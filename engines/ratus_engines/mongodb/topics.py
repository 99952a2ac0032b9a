"""What is known of a topic: its pause and limits, and when a claim lapses and a task expires next.

A claim has to know whether the topic is paused or limited and whether a claim has lapsed or a task expired,
but it cannot ask for that each time: it would take three times as long. So what was read is used for a tenth
of a second, and what this server does itself is added to it at once. What another server does meanwhile:

- Pausing and limits are exact all the same, since a server that sets them waits as long before it answers.
- A lapse is noticed late only where a claim was made for less than that time.
- Before a poll is answered with nothing, everything is read anew.
"""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

from ratus.core.errors import RatusError
from ratus.core.kinds import TOPIC_SETTINGS
from ratus.core.records import ACTIVE, PENDING, TopicSettings
from ratus.core.selection import Where
from ratus.core.times import MIN_TIME
from ratus.core.turns import Limits
from ratus_engines.mongodb import indexes, labels
from ratus_engines.mongodb.deployment import Deployment, background, stop
from ratus_engines.mongodb.documents import date, record
from ratus_engines.mongodb.records import Records

# Seconds for which a view is used: so many that reading costs a claim little, and so few that a server that
# pauses a topic can wait as long.
FRESH = 0.1

# Seconds after which a view that is still used is read anew, so that no claim has to wait for that.
AGING = 0.06

# Topics remembered at most; clients may ask for any name. Forgetting all is cheap: each is just read again.
MOST_VIEWS = 10_000

NEVER = math.inf

_DEFAULTS = TopicSettings()

# The earliest date that a task can have.
_FIRST_DATE = date(MIN_TIME)


class View:
    """What was read of a topic. No claim lapses before ``deadline``, no task expires before ``expiry``."""

    __slots__ = ("deadline", "expiry", "limits", "now", "paused", "read_at")

    def __init__(self) -> None:
        self.paused = False
        self.limits: Limits | None = None
        self.deadline: float = NEVER
        self.expiry: float = NEVER
        self.read_at = -NEVER
        self.now = 0

    def age(self, now: int) -> float:
        """Seconds since the view was read, by the machine's clock or by the caller's, whichever are more."""
        return max(time.monotonic() - self.read_at, abs(now - self.now) / 1_000_000)

    def note(self, deadline: float, expiry: float) -> None:
        self.deadline = min(self.deadline, deadline)
        self.expiry = min(self.expiry, expiry)


class Topics:
    """Reads topics, and remembers their views."""

    def __init__(self, deployment: Deployment, records: Records) -> None:
        self._deployment = deployment
        self._records = records
        self._views: dict[str, View] = {}
        # Views that are being read just now, and what happened meanwhile.
        self._reading: dict[str, View] = {}
        # Views that are read before they are too old.
        self._ahead: dict[str, asyncio.Task[None]] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    async def close(self) -> None:
        """Stop reading ahead."""
        for reading in list(self._ahead.values()):
            await stop(reading)

    # ---- views -----------------------------------------------------------------------------------

    def lock(self, topic: str) -> asyncio.Lock:
        """The lock of a topic, for a request that takes lapsed claims back, reads it anew or claims a batch.

        Without it, a hundred polls would all try to take back the same claim.
        """
        lock = self._locks.get(topic)
        if lock is None:
            if len(self._locks) >= MOST_VIEWS:
                self._locks = {name: held for name, held in self._locks.items() if held.locked()}
            lock = self._locks[topic] = asyncio.Lock()
        return lock

    def known(self, topic: str, now: int) -> View | None:
        """The view of the topic, or ``None`` where there is none that is younger than `FRESH`."""
        view = self._views.get(topic)
        if view is None or (age := view.age(now)) >= FRESH:
            return None
        if age > AGING and topic not in self._ahead:
            reading = self._ahead[topic] = background(self._read_ahead(topic, now))
            reading.add_done_callback(lambda _: self._ahead.pop(topic))
        return view

    async def _read_ahead(self, topic: str, now: int) -> None:
        try:
            with self._deployment.limited():
                async with self.lock(topic):
                    await self.read(topic, now)
        except RatusError:
            pass  # the next request reads it itself, and gets the error

    async def read(self, topic: str, now: int) -> View:
        """Read the topic anew, and remember the view. The caller holds the topic's `lock`."""
        view = self._reading[topic] = View()
        view.read_at, view.now = time.monotonic(), now
        try:
            deadline, expiry, settings = await asyncio.gather(
                self.first_deadline(topic), self._first_expiry(topic), self.settings(topic)
            )
        finally:
            del self._reading[topic]
        view.note(NEVER if deadline is None else deadline, NEVER if expiry is None else expiry)
        view.paused, view.limits = settings.paused, settings.limits
        if len(self._views) >= MOST_VIEWS:
            self._views.clear()
        self._views[topic] = view
        return view

    def note(self, topic: str, *, deadline: float | None = None, expiry: float | None = None) -> None:
        """Note the deadline of a claim that this server made, or the expiry of a task that it stored."""
        for views in (self._views, self._reading):
            if (view := views.get(topic)) is not None:
                view.note(NEVER if deadline is None else deadline, NEVER if expiry is None else expiry)

    def forget(self, topic: str | None = None) -> None:
        """Drop the view of a topic, or all views for ``None``, so that the next request reads it anew."""
        if topic is None:
            self._views.clear()
        else:
            self._views.pop(topic, None)

    # ---- settings --------------------------------------------------------------------------------

    async def settings(self, topic: str) -> TopicSettings:
        """The settings of the topic, as they are at this moment."""
        found = await self._records.get(TOPIC_SETTINGS, topic)
        return _DEFAULTS if found is None else found.members

    async def limits(self, topic: str, now: int) -> Limits | None:
        """The limits of the topic, as claims go by them."""
        view = self.known(topic, now)
        return (await self.settings(topic)).limits if view is None else view.limits

    async def drop_settings(self) -> None:
        """Delete the settings of every topic."""
        if (await self._deployment.settings.delete_many({})).deleted_count:
            await self.settings_changed(None)

    async def settings_changed(self, topic: str | None) -> None:
        """After a topic's settings (``None``: all) were written, wait until all servers go by them."""
        await asyncio.sleep(FRESH)
        self.forget(topic)

    # ---- the next thing to happen ----------------------------------------------------------------

    async def first_deadline(self, topic: str) -> int | None:
        """The earliest deadline of a claim."""
        return await self._first(topic, ACTIVE, "deadline", indexes.LAPSES)

    async def first_scheduled(
        self, topic: str, *, where: Where | None = None, after: int | None = None
    ) -> int | None:
        """The earliest ``scheduled`` of a pending task that matches; of those after ``after``, if given."""
        if where is None:
            return await self._first(topic, PENDING, "scheduled", indexes.SCHEDULED, after=after)
        return await self._first_of_priorities(topic, where, after)

    async def _first_of_priorities(self, topic: str, where: Where, after: int | None) -> int | None:
        """As `first_scheduled`, by the order of claiming: the first of each priority is looked at."""
        condition: dict[str, Any] = {"topic": topic, "state": PENDING, labels.FIELD: labels.matching(where)}
        condition["scheduled"] = {"$gte": _FIRST_DATE} if after is None else {"$gt": date(after)}
        times: list[int] = []
        while True:
            found = await self._deployment.current.find_one(
                condition,
                {"scheduled": 1, "priority": 1},
                sort=indexes.CLAIM_ORDER,
                hint=self._deployment.hint(indexes.KEY_CLAIMS),
            )
            if found is None:
                return min(times, default=None)
            times.append(record(found).scheduled)
            if found.get("priority") is None:
                return min(times)
            condition["$or"] = [{"priority": {"$lt": found["priority"]}}, {"priority": None}]

    async def _first_expiry(self, topic: str) -> int | None:
        return await self._first(topic, PENDING, "expires", indexes.EXPIRIES)

    async def _first(
        self, topic: str, state: int, name: str, index: str, *, after: int | None = None
    ) -> int | None:
        # Only documents that have the date.
        first = {"$gte": _FIRST_DATE} if after is None else {"$gt": date(after)}
        condition = {"topic": topic, "state": state, name: first}
        found = await self._deployment.current.find_one(
            condition, {name: 1, "_id": 0}, sort=[(name, 1)], hint=self._deployment.hint(index)
        )
        value: int | None = None if found is None else getattr(record(found), name)
        return value
