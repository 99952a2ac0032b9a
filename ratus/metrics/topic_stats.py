"""What only the engine knows, asked for when the metrics are scraped: how many tasks each topic has, how long
the oldest has been due, whether the engine serves.

An engine may be slow or unreachable just when the metrics are needed most. So it is asked in the background,
a scrape waits for it for a moment only, and its last answer is published for a while, with its age.
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
    TOPIC_CLOSED,
    TOPIC_DUE,
    TOPIC_LANES,
    TOPIC_OLDEST,
    TOPIC_PAUSED,
    TOPIC_TASKS,
)
from ratus.metrics.recorder import Metrics
from ratus.metrics.series import OTHER

logger = logging.getLogger(__name__)

# Seconds that a scrape waits for the engine, at the most. Prometheus gives up a scrape after ten by default.
PATIENCE = 1.0

# After a survey that took longer than `_QUICK` seconds, none is made for `_SHARE` times as long.
_QUICK = 0.05
_SHARE = 20

# Seconds after which the results of a survey are too old to be published; or twice the pause between two
# surveys, if that is more.
_LONGEST = 60.0

_STATES = ("pending", "active", "completed", "archived")


class TopicStats:
    """Asks the engine for its health and for the tasks of each topic, and makes metrics of the answers.

    ``draining`` returns whether the server is stopping: it is not ready then, whatever the engine says.
    Belongs to the thread of the event loop.
    """

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
        self._works = True  # whether the last survey succeeded; only the first of several failures is logged

    def begin(self) -> None:
        """Start asking the engine for its health and its topics, unless that is under way. A slow survey of
        the topics is not repeated at once.

        The answers are for several requests, so the tasks do not inherit the context variables of one.
        """
        loop = asyncio.get_running_loop()
        if _is_over(self._probing):
            self._probing = loop.create_task(self._engine.health(), context=Context())
        if _is_over(self._asking) and monotonic() >= self._next_at:
            self._asking = loop.create_task(self._ask(), context=Context())

    async def wait(self) -> None:
        """Wait until the engine has answered, `PATIENCE` seconds at the most."""
        under_way = [task for task in (self._asking, self._probing) if task is not None and not task.done()]
        if under_way:
            await asyncio.wait(under_way, timeout=PATIENCE)

    async def close(self) -> None:
        """Cancel what the engine is being asked, and wait `PATIENCE` seconds at the most for each task."""
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
            self._count_closed(figures := count.result(), started)
            self._figures, self._made_at, self._works = figures, started, True
        finally:
            took = monotonic() - started
            self._rest = _SHARE * took if took > _QUICK else 0.0
            self._next_at = monotonic() + self._rest

    def _count_closed(self, figures: dict[str, TopicInfo], now: float) -> None:
        """Count the time since the last survey for the topics that this one finds closed.

        That is exact for what stays closed, and right on average for what opens and closes in between.
        """
        # A server that nothing scrapes does not know what happened meanwhile.
        seconds = min(now - self._made_at, max(_LONGEST, 2 * self._rest)) if self._figures else 0.0
        for topic, info in figures.items():
            if info.closed is not None:
                self._metrics.closed(topic, info.closed.reason, seconds)

    def texts(self) -> Iterator[str]:
        """The metrics of the engine's last answers as texts, one topic at a time."""
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
                if self._metrics.has_place(topic)  # it may have been dropped meanwhile
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
        yield header(TOPIC_CLOSED, "gauge", "1 for a topic that hands out nothing, as a whole, and why.")
        for label, info in shown:
            reason = "" if info.closed is None else info.closed.reason.value
            yield f'{TOPIC_CLOSED}{{reason="{reason}",topic="{label}"}} 1\n' if reason else ""
        yield header(TOPIC_LANES, "gauge", "Number of lanes that the topic has, if it has any.")
        for label, info in shown:
            yield f'{TOPIC_LANES}{{topic="{label}"}} {format_count(info.lanes)}\n' if info.lanes else ""

    def _is_ready(self) -> bool:
        probe = self._probing
        if self._draining() or probe is None or not probe.done() or probe.cancelled():
            return False
        return probe.exception() is None and probe.result().ready


class _Count:
    """Collects the topics of a survey: each that has a place by itself, all others summed up as ``other``.

    Topics that no request has used so far get places, too, so that a backlog is seen after a restart. If they
    are more than the free places, they get none: the places are for topics in use.
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
        """The topics by label; those without a place are one, ``other``."""
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
    """Everything that a scrape gets, in pieces of some 130 KB: what this server counted, then what the engine
    answered."""
    survey.begin()
    async for piece in metrics.stream():
        yield piece
    await survey.wait()
    async for piece in in_slices(survey.texts()):
        yield piece


def _is_over(task: asyncio.Task[Any] | None) -> bool:
    return task is None or task.done()


def _together(one: TopicInfo, other: TopicInfo) -> TopicInfo:
    """Two topics that have no place of their own, as one. It counts as paused when both are, and as open."""
    pending, active, completed, archived = map(sum, zip(one.counts, other.counts, strict=True))
    return TopicInfo(
        OTHER,
        (pending, active, completed, archived),
        one.due + other.due,
        min((time for time in (one.oldest, other.oldest) if time is not None), default=None),
        one.paused and other.paused,
        lanes=one.lanes + other.lanes,
    )
