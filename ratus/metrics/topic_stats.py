"""What only the engine knows, asked for when the metrics are scraped: how many tasks each topic has, how long
the oldest has been due, whether the engine serves.

An engine may be slow or away just when the metrics are needed most. So it is asked in the background, a
scrape waits for it for a moment only, and its last answer is published for a while, with its age.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import Context
from time import monotonic
from typing import Any

from ratus.core.clock import SECOND, Clock
from ratus.core.errors import ServiceUnavailable
from ratus.core.records import TopicInfo
from ratus.engine import Engine, Health
from ratus.metrics.exposition import escape_label_value, format_count, format_value, header, in_slices
from ratus.metrics.families import (
    FIGURES_AGE,
    READY,
    TOPIC_DUE,
    TOPIC_OLDEST,
    TOPIC_PAUSED,
    TOPIC_TASKS,
)
from ratus.metrics.recorder import Metrics
from ratus.metrics.series import OTHER

logger = logging.getLogger(__name__)

# Seconds that a scrape waits for the engine, from its beginning. Prometheus gives up after ten by default.
PATIENCE = 1.0

# A survey that took longer than `_QUICK` seconds is not made again before so many times as long have passed.
_QUICK = 0.05
_SHARE = 20

# Seconds after which figures are too old to be published, or twice the time between two surveys if that is
# more.
_LONGEST = 60.0

_STATES = ("pending", "active", "completed", "archived")


class TopicStats:
    """Asks the engine. ``draining`` says whether the server is stopping: it is not ready then, whatever the
    engine says. Belongs to the thread of the event loop."""

    def __init__(
        self, engine: Engine, clock: Clock, metrics: Metrics, *, draining: Callable[[], bool]
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._metrics = metrics
        self._draining = draining
        self._figures: dict[str, TopicInfo] = {}
        self._made_at = self._next_at = monotonic()
        self._rest = 0.0
        self._asking: asyncio.Task[None] | None = None
        self._probing: asyncio.Task[Health] | None = None
        self._works = True

    def begin(self) -> None:
        """Ask the engine, unless that is under way or was done a moment ago.

        What is asked is shared by several requests and runs in the context of none.
        """
        loop = asyncio.get_running_loop()
        if _is_over(self._probing):
            self._probing = loop.create_task(self._engine.health(), context=Context())
        if _is_over(self._asking) and monotonic() >= self._next_at:
            self._asking = loop.create_task(self._ask(), context=Context())

    async def wait(self) -> None:
        """Wait until the engine has answered, or for `PATIENCE`."""
        under_way = [task for task in (self._asking, self._probing) if task is not None and not task.done()]
        if under_way:
            await asyncio.wait(under_way, timeout=PATIENCE)

    async def close(self) -> None:
        """End what is under way."""
        for task in (self._asking, self._probing):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait([task], timeout=PATIENCE)

    async def _ask(self) -> None:
        started = monotonic()
        count = _Count(self._metrics)
        try:
            await self._engine.survey(self._clock.now(), count.visit)
        except Exception as error:
            if self._works:
                trace = None if isinstance(error, ServiceUnavailable) else error
                logger.warning("the metrics go without the tasks of topics: %s", error, exc_info=trace)
            self._works = False
        else:
            self._figures, self._made_at, self._works = count.result(), started, True
        finally:
            took = monotonic() - started
            self._rest = _SHARE * took if took > _QUICK else 0.0
            self._next_at = monotonic() + self._rest

    def texts(self) -> Iterator[str]:
        """What the engine has said so far, one topic at a time."""
        age = monotonic() - self._made_at
        yield header(READY, "gauge", "Whether the server can serve, as /readyz says it: 1 or 0.")
        yield f"{READY} {format_count(int(self._is_ready()))}\n"
        yield header(FIGURES_AGE, "gauge", "How long ago the engine was asked for what follows.")
        yield f"{FIGURES_AGE} {format_value(age)}\n"
        shown: list[tuple[str, TopicInfo]] = []
        if age < max(_LONGEST, 2 * self._rest):
            shown = [
                (escape_label_value(topic), info)
                for topic, info in self._figures.items()
                if self._metrics.has_place(topic)  # it may have gone meanwhile
            ]
        yield header(TOPIC_TASKS, "gauge", "Number of tasks by state.")
        for label, info in shown:
            yield "".join(
                f'{TOPIC_TASKS}{{state="{state}",topic="{label}"}} {format_count(count)}\n'
                for state, count in zip(_STATES, info.counts, strict=True)
            )
        yield header(TOPIC_DUE, "gauge", "Number of tasks that are due.")
        for label, info in shown:
            yield f'{TOPIC_DUE}{{topic="{label}"}} {format_count(info.due)}\n'
        yield header(TOPIC_OLDEST, "gauge", "How long the task that is due longest has been; 0 without one.")
        now = self._clock.now()
        for label, info in shown:
            waited = 0.0 if info.oldest is None else max(0, now - info.oldest) / SECOND
            yield f'{TOPIC_OLDEST}{{topic="{label}"}} {format_value(waited)}\n'
        yield header(TOPIC_PAUSED, "gauge", "Whether the topic is paused: 1 or 0.")
        for label, info in shown:
            yield f'{TOPIC_PAUSED}{{topic="{label}"}} {format_count(int(info.paused))}\n'

    def _is_ready(self) -> bool:
        probe = self._probing
        if self._draining() or probe is None or not probe.done() or probe.cancelled():
            return False
        return probe.exception() is None and probe.result().ready


class _Count:
    """Takes in what is known of each topic, and keeps it for as many as have a place.

    Topics that no request has used so far get places, too, so that a backlog is seen after a restart; but not
    where there are more topics than places: those are for topics in use.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._placed: dict[str, TopicInfo] = {}
        self._unused: dict[str, TopicInfo] = {}
        self._is_crowded = False

    def visit(self, info: TopicInfo) -> None:
        if self._metrics.has_place(info.name):
            self._place(info.name, info)
        elif self._is_crowded:
            self._place(OTHER, info)
        else:
            self._unused[info.name] = info
            if len(self._unused) > self._metrics.free_places:
                self._is_crowded = True
                self._place_all_as_other()

    def result(self) -> dict[str, TopicInfo]:
        """By topic, all that have no place as ``other``."""
        for topic in self._unused:
            self._metrics.admit_topic(topic)
        for topic in [topic for topic in self._unused if self._metrics.has_place(topic)]:
            self._place(topic, self._unused.pop(topic))
        self._place_all_as_other()
        return self._placed

    def _place_all_as_other(self) -> None:
        for info in self._unused.values():
            self._place(OTHER, info)
        self._unused.clear()

    def _place(self, label: str, info: TopicInfo) -> None:
        known = self._placed.get(label)
        self._placed[label] = info if known is None else _together(known, info)


async def scrape(metrics: Metrics, survey: TopicStats) -> AsyncIterator[bytes]:
    """Everything that a scrape gets, in pieces of some 130 KB: first what this server counted by itself."""
    survey.begin()
    async for piece in metrics.stream():
        yield piece
    await survey.wait()
    async for piece in in_slices(survey.texts()):
        yield piece


def _is_over(task: asyncio.Task[Any] | None) -> bool:
    return task is None or task.done()


def _together(one: TopicInfo, other: TopicInfo) -> TopicInfo:
    """Two topics that have no place of their own, as one. It counts as paused when both are."""
    pending, active, completed, archived = map(sum, zip(one.counts, other.counts, strict=True))
    return TopicInfo(
        OTHER,
        (pending, active, completed, archived),
        one.due + other.due,
        min((time for time in (one.oldest, other.oldest) if time is not None), default=None),
        one.paused and other.paused,
    )
