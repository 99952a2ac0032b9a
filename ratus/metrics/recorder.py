"""The metrics of one server: what its hot path counts, and what a scrape reads."""

from __future__ import annotations

import logging
import platform
import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from prometheus_client import (
    CollectorRegistry,
    GCCollector,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

from ratus import __version__
from ratus.core.transitions import Event
from ratus.core.turns import Reason
from ratus.metrics.exposition import header, in_slices, sample
from ratus.metrics.families import NAMES, family_texts
from ratus.metrics.series import (
    OTHER,
    RESERVED,
    BoundedLabel,
    ChoreSeries,
    ConsumerSeries,
    Histogram,
    OperationSeries,
    TopicSeries,
)

logger = logging.getLogger(__name__)

# The methods that become label values. A client may send any other text as a method; it counts as `OTHER`.
_METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"))

# A thousand topics times a thousand producers times a thousand consumers are within the limit of each label
# and would still fill any memory. A series of tasks takes about 300 bytes, so with this limit all take some
# 30 MB.
MAX_TASK_SERIES = 100_000

_METRIC_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")

Samples = Iterable[tuple[dict[str, str], float]]


@dataclass(frozen=True, slots=True)
class _Registered:
    """A metric whose values are asked for when it is scraped."""

    name: str
    kind: str
    help: str
    collect: Callable[[], Samples]


class Metrics:
    """Counts what a server does and writes it down for Prometheus.

    All methods belong to one thread, that of the server's event loop, so nothing here is locked. Every server
    has its own; nothing is global. Durations are float seconds, as Prometheus wants them.

    The labels ``topic``, ``producer`` and ``consumer`` have at most ``max_label_values`` values each, beside
    ``""`` (there is none) and ``other``, which stands for all that come later. A topic takes its place when
    it has tasks (``produced``, ``consumed``, ``committed``, ``admit_topic``), never just because a request
    names it, and loses it by ``drop_topic``. A producer or consumer has a place while any topic uses it.

    ``engine`` is the name of the engine, a label of ``ratus_build_info``. Raises ValueError when
    ``max_label_values`` is negative.
    """

    def __init__(self, max_label_values: int = 1000, *, engine: str = "") -> None:
        if max_label_values < 0:
            raise ValueError(f"max_label_values must not be negative, but is {max_label_values}")
        self._max_topics = max_label_values
        self._topics = {value: TopicSeries() for value in ("", OTHER)}
        self._other = self._topics[OTHER]
        self._producers = BoundedLabel(max_label_values)
        self._consumers = BoundedLabel(max_label_values)
        self._task_series = 0
        self._rounds = Histogram()
        self._chores: dict[str, ChoreSeries] = {}
        self._operations: dict[str, OperationSeries] = {}
        self._names = set(NAMES)
        self._registered: list[_Registered] = []
        self._process = CollectorRegistry()
        ProcessCollector(registry=self._process)
        PlatformCollector(registry=self._process)
        GCCollector(registry=self._process)
        self.register(
            "ratus_build_info",
            "gauge",
            "The version of the server, its Python and its engine; the value is always 1.",
            lambda: [({"version": __version__, "python": platform.python_version(), "engine": engine}, 1.0)],
        )

    # What the hot path calls: one or two look-ups and an addition when the labels have been seen before.

    def observe_request(
        self, topic: str | None, method: str, endpoint: str, status: int, seconds: float
    ) -> None:
        """Count one answered request.

        ``topic`` is None (label ``""``) for a route without topic, and counts as ``other`` when it was not
        admitted. ``endpoint`` is the pattern of the route, never the path that was asked for.
        """
        series = self._topics.get("" if topic is None else topic, self._other).requests
        histogram = series.get((method, endpoint, status))
        if histogram is None:
            key = (method if method in _METHODS else OTHER, endpoint, status)
            histogram = series.setdefault(key, Histogram())
        histogram.observe(seconds)

    def produced(self, topic: str, producer: str, count: int = 1) -> None:
        """Count ``count`` accepted tasks of one producer."""
        kept = self._topics.get(topic) or self._admit(topic)
        before = kept.produced.get(producer)
        if before is None:
            producer = self._new_produced(kept, producer)
            before = kept.produced[producer]
        kept.produced[producer] = before + count

    def consumed(self, topic: str, producer: str, consumer: str, delay_seconds: float | None) -> None:
        """Count one claim; ``delay_seconds`` is the time since the task's ``scheduled``, None if unknown."""
        kept = self._topics.get(topic) or self._admit(topic)
        series = kept.tasks.get((producer, consumer)) or self._new_tasks(kept, producer, consumer)
        series.consumed += 1
        if delay_seconds is not None:
            series.schedule_delay_seconds = delay_seconds
            # A task that was claimed by its id before its scheduled time did not wait.
            kept.delays.observe(delay_seconds if delay_seconds > 0.0 else 0.0)

    def committed(self, topic: str, producer: str, consumer: str, execution_seconds: float | None) -> None:
        """Count one commit; ``execution_seconds`` is the time since the claim, None where there was none."""
        kept = self._topics.get(topic) or self._admit(topic)
        series = kept.tasks.get((producer, consumer)) or self._new_tasks(kept, producer, consumer)
        series.committed += 1
        if execution_seconds is not None:
            series.execution_seconds = execution_seconds
            kept.executions.observe(execution_seconds if execution_seconds > 0.0 else 0.0)

    # What is called now and then.

    def record(self, topic: str, events: Sequence[Event]) -> None:
        """Count what the engine did to a task of the topic; see `ratus.engine.Observer`."""
        kept = self._topics.get(topic) or self._admit(topic)
        for event in events:
            kept.events[event] += 1

    def refused(self, topic: str, reason: Reason) -> None:
        """Count a claim that a limit let have nothing; see `ratus.engine.Observer`."""
        refused = (self._topics.get(topic) or self._admit(topic)).refused
        refused[reason] = refused.get(reason, 0) + 1

    def closed(self, topic: str, reason: Reason, seconds: float) -> None:
        """Count for how long a topic, which has a place, was closed."""
        if (kept := self._topics.get(topic)) is not None:
            kept.closed[reason] = kept.closed.get(reason, 0.0) + seconds

    def observe_chore(self, seconds: float) -> None:
        """Count one round of the chores."""
        self._rounds.observe(seconds)

    def chore(self, name: str) -> ChoreSeries:
        """The series of a chore, in which its caller counts. It is published from the first call on, with
        zero failures."""
        return self._chores.setdefault(name, ChoreSeries())

    def operation(self, name: str) -> OperationSeries:
        """The series of an operation of the engine, made at the first call. Operations are few."""
        return self._operations.setdefault(name, OperationSeries())

    # Which topics there are.

    def admit_topic(self, topic: str) -> None:
        """Give a topic that is known to exist a place, if there is one left."""
        if topic not in self._topics:
            self._admit(topic)

    def has_place(self, topic: str) -> bool:
        """Whether a topic counts as itself; else it counts as ``other``."""
        return topic in self._topics

    @property
    def free_places(self) -> int:
        """For how many more topics there is a place."""
        return self._max_topics + len(RESERVED) - len(self._topics)

    def topics(self) -> list[str]:
        """The topics that have a place."""
        return [topic for topic in self._topics if topic not in RESERVED]

    def drop_topic(self, topic: str) -> None:
        """Drop everything that was counted under a topic, and free its place.

        The places of producers and consumers that no other topic uses are free as well. Does nothing for a
        topic without a place. What was counted under ``other`` stays.
        """
        if topic in RESERVED:
            return
        dropped = self._topics.pop(topic, None)
        if dropped is not None:
            self._producers.release(dropped.producers)
            self._consumers.release(dropped.consumers)
            self._task_series -= len(dropped.produced) + len(dropped.tasks)

    # Metrics whose values are asked for at a scrape.

    def register(
        self, name: str, kind: Literal["counter", "gauge"], help: str, collect: Callable[[], Samples]
    ) -> None:
        """Add a metric whose samples ``collect`` returns, as pairs of labels and value, at each scrape.

        ``collect`` is called and its iterable read to the end in one go, so it sees one instant and should be
        done in a millisecond or two. It has to bound its label values itself. When it raises, that is logged
        and this scrape is without the metric: when something is wrong, the others are needed most.

        Raises ValueError when the name is not valid, is taken, or does not end in ``_total`` for a counter,
        and for an unknown kind.
        """
        if _METRIC_NAME.fullmatch(name) is None:
            raise ValueError(
                f"metric name {name!r} must be letters, digits, '_' and ':', not starting with a digit"
            )
        if name in self._names:
            raise ValueError(f"there is a metric {name!r} already; choose another name")
        if kind not in ("counter", "gauge"):
            raise ValueError(f"the kind of metric {name!r} must be 'counter' or 'gauge', but is {kind!r}")
        if kind == "counter" and not name.endswith("_total"):
            raise ValueError(f"the name of counter {name!r} must end in '_total'")
        self._names.add(name)
        self._registered.append(_Registered(name, kind, help, collect))

    # What a scrape gets.

    async def render(self) -> bytes:
        """Everything, in the Prometheus text format (``CONTENT_TYPE``).

        The event loop has its turn every half millisecond or so, but for joining the pieces at the end (2 ms
        for 13 MB; ``stream`` has no such moment). What is counted meanwhile may or may not be included, but
        the lines of one histogram always belong together.
        """
        return b"".join([piece async for piece in self.stream()])

    def stream(self) -> AsyncIterator[bytes]:
        """The same as ``render`` in pieces of some 130 KB, for an answer that is sent while it is made."""
        return in_slices(self._texts())

    def _texts(self) -> Iterator[str]:
        """The whole exposition, series by series."""
        yield from family_texts(
            list(self._topics.items()),
            self._rounds,
            list(self._chores.items()),
            list(self._operations.items()),
        )
        for family in self._registered:
            yield from _collected_texts(family)
        # In the event loop, not in a thread: counting open files takes 3 ms when there are 10,000, but
        # releases the interpreter's lock for each of them, and a thread would wait for the busy event loop
        # each time.
        yield generate_latest(self._process).decode()

    # Labels that have not been seen before.

    def _admit(self, topic: str) -> TopicSeries:
        """The series of a topic that has no place yet: a new one, or that of ``other`` if all are taken."""
        if self.free_places <= 0:
            return self._other
        return self._topics.setdefault(topic, TopicSeries())

    def _new_produced(self, kept: TopicSeries, producer: str) -> str:
        """Return the label value of a producer in a topic; ``kept.produced`` has a count for it then."""
        producer = OTHER if self._is_full() else self._producers.use(producer, kept.producers)
        if producer not in kept.produced:
            kept.produced[producer] = 0
            self._task_series += 1
        return producer

    def _new_tasks(self, kept: TopicSeries, producer: str, consumer: str) -> ConsumerSeries:
        """The series in a topic of a producer and a consumer that have not been seen there together; each
        counts as ``other`` if it has no place."""
        if self._is_full():
            key = (OTHER, OTHER)
        else:
            key = (
                self._producers.use(producer, kept.producers),
                self._consumers.use(consumer, kept.consumers),
            )
        series = kept.tasks.get(key)
        if series is None:
            series = kept.tasks[key] = ConsumerSeries()
            self._task_series += 1
        return series

    def _is_full(self) -> bool:
        return self._task_series >= MAX_TASK_SERIES


def _collected_texts(family: _Registered) -> Iterator[str]:
    try:
        samples = list(family.collect())
    except Exception:
        logger.exception("cannot collect metric %s; this scrape is without it", family.name)
        return
    yield header(family.name, family.kind, family.help)
    for labels, value in samples:
        yield sample(family.name, labels, value)
