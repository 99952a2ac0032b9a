"""The numbers behind the metrics, and the bound on how many label values there may be.

prometheus_client keeps a lock and several objects for every number, and finds them again by building a tuple
of strings, which takes 2.7 us of the 30 us that a request takes in all. This server counts from one thread
only (its event loop), so plain dictionaries and integers are enough, without locks.

A label has a limited number of places. A new value takes one, or is counted as `OTHER` if all are taken.
"""

from __future__ import annotations

from bisect import bisect_left

from ratus.core.transitions import Event
from ratus.core.turns import Reason

OTHER = "other"
"""The label value under which all values are counted that have no place."""

RESERVED = frozenset(("", OTHER))
"""Label values that take no place: the empty one, where there is no topic, producer or consumer, and `OTHER`.
A topic, producer or consumer that is itself called ``other`` is counted with those without a place."""


class Buckets:
    """The upper bounds of a histogram, in seconds, each as it is to be written; the last is ``+Inf``."""

    __slots__ = ("bounds", "labels")

    def __init__(self, *labels: str) -> None:
        self.labels = labels
        self.bounds = tuple(float(label) for label in labels[:-1])


# Each bound as the Ratus in Go writes it ("1", not "1.0"), so that queries made for that find their buckets.
RATUS_BUCKETS = Buckets("0.01", "0.1", "0.5", "1", "2", "5", "+Inf")
# From a waiting consumer, which gets its task within milliseconds, to a backlog or a task of hours.
TASK_BUCKETS = Buckets(
    "0.001", "0.01", "0.1", "0.5", "1", "5", "10", "30", "60", "300", "900", "3600", "14400", "+Inf"
)
# From an operation in memory to one of a database that is about to time out.
ENGINE_BUCKETS = Buckets(
    "0.0001", "0.0005", "0.001", "0.0025", "0.005", "0.01", "0.025", "0.1", "0.5", "1", "5", "+Inf"
)


class Histogram:
    """How long something took: the number of observations in each bucket (not cumulated) and their sum."""

    __slots__ = ("_bounds", "counts", "labels", "sum")

    def __init__(self, buckets: Buckets = RATUS_BUCKETS) -> None:
        self.labels = buckets.labels
        self.counts = [0] * len(buckets.labels)
        self.sum = 0.0
        self._bounds = buckets.bounds

    def observe(self, seconds: float) -> None:
        """Count one observation; one that equals a bound belongs to that bound's bucket."""
        self.counts[bisect_left(self._bounds, seconds)] += 1
        self.sum += seconds

    @property
    def is_empty(self) -> bool:
        """Whether nothing was observed."""
        return not any(self.counts)


class ConsumerSeries:
    """What one consumer did with the tasks of one producer in one topic: four metrics with the same labels.

    A count of 0 and a time of None mean that there is no such sample yet.
    """

    __slots__ = ("committed", "consumed", "execution_seconds", "schedule_delay_seconds")

    def __init__(self) -> None:
        self.consumed = 0
        self.committed = 0
        self.schedule_delay_seconds: float | None = None
        self.execution_seconds: float | None = None


class OperationSeries:
    """How long an operation of the engine took, and how often the engine could not carry it out."""

    __slots__ = ("durations", "errors")

    def __init__(self) -> None:
        self.durations = Histogram(ENGINE_BUCKETS)
        self.errors = 0


class ChoreSeries:
    """How often a chore failed, and when it was done last: seconds since 1970, ``None`` before."""

    __slots__ = ("done_at", "failures")

    def __init__(self) -> None:
        self.failures = 0
        self.done_at: float | None = None


class TopicSeries:
    """Everything that is counted under one topic. Dropping the topic is dropping this."""

    __slots__ = (
        "closed",
        "consumers",
        "delays",
        "events",
        "executions",
        "produced",
        "producers",
        "refused",
        "requests",
        "tasks",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, str, int], Histogram] = {}
        """by method, endpoint and status"""
        self.produced: dict[str, int] = {}
        """by producer"""
        self.tasks: dict[tuple[str, str], ConsumerSeries] = {}
        """by producer and consumer"""
        self.delays = Histogram(TASK_BUCKETS)
        """from ``scheduled`` to the claim"""
        self.executions = Histogram(TASK_BUCKETS)
        """from the claim to the commit"""
        self.events = dict.fromkeys(Event, 0)
        self.refused: dict[Reason, int] = {}
        """claims that a limit refused, by reason"""
        self.closed: dict[Reason, float] = {}
        """seconds for which the topic was closed, by reason"""
        self.producers: set[str] = set()
        self.consumers: set[str] = set()


# Characters of a producer or consumer; a longer one is counted as `OTHER`. Requests may hold names of
# megabytes, and a thousand of those do not fit into memory. The length of topics is bounded by the API.
LONGEST_VALUE = 1024


class BoundedLabel:
    """The values that one label has: at most ``limit``, each with a place for as long as a topic uses it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._topics_using: dict[str, int] = {}
        # Every request brings its own copy of a name, up to 1,024 bytes long; all series share the first one.
        self._shared: dict[str, str] = {}

    def use(self, value: str, used_by_topic: set[str]) -> str:
        """Return what to count ``value`` as: itself, or OTHER where there is no place for it.

        ``used_by_topic`` holds the values that the topic has taken a place for, and is added to.
        """
        if value in RESERVED:
            return value
        if value in used_by_topic:
            return self._shared[value]
        users = self._topics_using.get(value, 0)
        if users == 0 and (len(self._topics_using) >= self._limit or len(value) > LONGEST_VALUE):
            return OTHER
        value = self._shared.setdefault(value, value)
        self._topics_using[value] = users + 1
        used_by_topic.add(value)
        return value

    def release(self, used_by_topic: set[str]) -> None:
        """Give back the values that a topic used. The place of one that no topic uses any more is free."""
        for value in used_by_topic:
            users = self._topics_using[value] - 1
            if users:
                self._topics_using[value] = users
            else:
                del self._topics_using[value], self._shared[value]
