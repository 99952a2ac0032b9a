"""The metrics that every server counts: their names, their labels, and how they are written down.

The first seven have the names, types and labels of the Ratus in Go, so that its dashboards and alerts work
unchanged. The names of this server's own metrics by topic begin with ``ratus_topic_``.

A scrape is a generator that stops between any two series while other tasks run and count. So nothing here
iterates over a dictionary, only over lists made from it. A topic that is dropped meanwhile is still written,
from its `TopicSeries`, which is not changed any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ratus.core.transitions import Event
from ratus.core.turns import Reason
from ratus.metrics.exposition import escape_label_value, format_count, format_value, header, histogram_samples
from ratus.metrics.series import (
    RESERVED,
    ChoreSeries,
    ConsumerSeries,
    Histogram,
    OperationSeries,
    TopicSeries,
)

REQUEST_DURATION = "ratus_request_duration_seconds"
CHORE_DURATION = "ratus_chore_duration_seconds"
SCHEDULE_DELAY = "ratus_task_schedule_delay_seconds"
EXECUTION_DURATION = "ratus_task_execution_duration_seconds"
PRODUCED_COUNT = "ratus_task_produced_count_total"
CONSUMED_COUNT = "ratus_task_consumed_count_total"
COMMITTED_COUNT = "ratus_task_committed_count_total"

TOPIC_DELAY = "ratus_topic_schedule_delay_seconds"
TOPIC_EXECUTION = "ratus_topic_execution_duration_seconds"
FAILURES = "ratus_topic_failures_total"
RETRIES = "ratus_topic_retries_total"
LAPSES = "ratus_topic_lapses_total"
DEAD_LETTERS = "ratus_topic_dead_letters_total"
REFUSED = "ratus_topic_claims_refused_total"
CLOSED_SECONDS = "ratus_topic_closed_seconds_total"
CHORE_FAILURES = "ratus_chore_failures_total"
CHORE_DONE = "ratus_chore_last_success_timestamp_seconds"
ENGINE_DURATION = "ratus_engine_duration_seconds"
ENGINE_ERRORS = "ratus_engine_errors_total"

# Metrics whose values the engine is asked for at each scrape, see `ratus.metrics.topic_stats`.
READY = "ratus_ready"
TOPIC_TASKS = "ratus_topic_tasks"
TOPIC_DUE = "ratus_topic_due_tasks"
TOPIC_OLDEST = "ratus_topic_oldest_due_age_seconds"
TOPIC_PAUSED = "ratus_topic_paused"
TOPIC_CLOSED = "ratus_topic_closed"
TOPIC_LANES = "ratus_topic_lanes"
FIGURES_AGE = "ratus_topic_figures_age_seconds"

NAMES = frozenset(
    (
        REQUEST_DURATION,
        CHORE_DURATION,
        SCHEDULE_DELAY,
        EXECUTION_DURATION,
        PRODUCED_COUNT,
        CONSUMED_COUNT,
        COMMITTED_COUNT,
        TOPIC_DELAY,
        TOPIC_EXECUTION,
        FAILURES,
        RETRIES,
        LAPSES,
        DEAD_LETTERS,
        REFUSED,
        CLOSED_SECONDS,
        CHORE_FAILURES,
        CHORE_DONE,
        ENGINE_DURATION,
        ENGINE_ERRORS,
        READY,
        TOPIC_TASKS,
        TOPIC_DUE,
        TOPIC_OLDEST,
        TOPIC_PAUSED,
        TOPIC_CLOSED,
        TOPIC_LANES,
        FIGURES_AGE,
    )
)

# Name, help, and for each event that is counted in it the labels beside the topic.
_EVENTS = (
    (FAILURES, "Number of errors that consumers reported.", {Event.FAILURE: ""}),
    (RETRIES, "Number of tasks that are pending again after a failure or a lapse.", {Event.RETRY: ""}),
    (LAPSES, "Number of claims that ended by their deadline.", {Event.LAPSE: ""}),
    (
        DEAD_LETTERS,
        "Number of tasks that were archived for want of attempts (failed) or of time (expired).",
        {Event.DEAD_FAILED: 'outcome="failed",', Event.DEAD_EXPIRED: 'outcome="expired",'},
    ),
)

Topics = list[tuple[str, TopicSeries]]
Chores = list[tuple[str, ChoreSeries]]
Operations = list[tuple[str, OperationSeries]]


def family_texts(topics: Topics, rounds: Histogram, chores: Chores, operations: Operations) -> Iterator[str]:
    """The text of all these metrics, family after family, one series at a time."""
    yield from _request_texts(topics)
    yield header(CHORE_DURATION, "histogram", "How long a run of the chores took.")
    yield histogram_samples(CHORE_DURATION, "", "", rounds)
    yield from _task_texts(
        topics,
        SCHEDULE_DELAY,
        "gauge",
        "How long after its scheduled time the last task was claimed.",
        lambda series: series.schedule_delay_seconds,
    )
    yield from _task_texts(
        topics,
        EXECUTION_DURATION,
        "gauge",
        "How long after its claim the last task was committed.",
        lambda series: series.execution_seconds,
    )
    yield from _produced_texts(topics)
    yield from _task_texts(
        topics, CONSUMED_COUNT, "counter", "Number of tasks claimed.", lambda series: series.consumed or None
    )
    yield from _task_texts(
        topics,
        COMMITTED_COUNT,
        "counter",
        "Number of tasks committed.",
        lambda series: series.committed or None,
    )
    yield from _topic_histogram_texts(
        topics,
        TOPIC_DELAY,
        "How long after their scheduled time tasks were claimed.",
        lambda kept: kept.delays,
    )
    yield from _topic_histogram_texts(
        topics,
        TOPIC_EXECUTION,
        "How long after their claim tasks were committed.",
        lambda kept: kept.executions,
    )
    yield from _event_texts(topics)
    yield from _reason_texts(
        topics,
        REFUSED,
        "Number of claims that found due tasks, and were let have none by a limit.",
        lambda series: series.refused,
    )
    yield from _reason_texts(
        topics,
        CLOSED_SECONDS,
        "For how long the topic as a whole was closed, as seen at each scrape.",
        lambda series: series.closed,
    )
    yield from _chore_texts(chores)
    yield from _operation_texts(operations)


def _request_texts(topics: Topics) -> Iterator[str]:
    yield header(REQUEST_DURATION, "histogram", "How long answering a request took.")
    for topic, kept in topics:
        topic_label = escape_label_value(topic)
        for (method, endpoint, status), histogram in list(kept.requests.items()):
            before_le = f'endpoint="{escape_label_value(endpoint)}",'
            after_le = f',method="{method}",status_code="{status}",topic="{topic_label}"'
            yield histogram_samples(REQUEST_DURATION, before_le, after_le, histogram)


def _produced_texts(topics: Topics) -> Iterator[str]:
    yield header(PRODUCED_COUNT, "counter", "Number of tasks accepted.")
    for topic, kept in topics:
        topic_label = escape_label_value(topic)
        for producer in list(kept.produced):
            producer_label = escape_label_value(producer)
            count = format_count(kept.produced[producer])
            yield f'{PRODUCED_COUNT}{{producer="{producer_label}",topic="{topic_label}"}} {count}\n'


def _task_texts(
    topics: Topics, name: str, kind: str, help_text: str, value_of: Callable[[ConsumerSeries], float | None]
) -> Iterator[str]:
    yield header(name, kind, help_text)
    for topic, kept in topics:
        topic_label = escape_label_value(topic)
        for key in list(kept.tasks):
            value = value_of(kept.tasks[key])
            if value is None:
                yield ""
                continue
            producer_label, consumer_label = map(escape_label_value, key)
            labels = f'consumer="{consumer_label}",producer="{producer_label}",topic="{topic_label}"'
            yield f"{name}{{{labels}}} {format_value(value)}\n"


def _topic_histogram_texts(
    topics: Topics, name: str, help_text: str, histogram_of: Callable[[TopicSeries], Histogram]
) -> Iterator[str]:
    yield header(name, "histogram", help_text)
    for topic, kept in topics:
        histogram = histogram_of(kept)
        after_le = f',topic="{escape_label_value(topic)}"'
        yield "" if histogram.is_empty else histogram_samples(name, "", after_le, histogram)


def _event_texts(topics: Topics) -> Iterator[str]:
    """A topic's counters are published from its beginning, as zeros: Prometheus sees their first increase."""
    for name, help_text, events in _EVENTS:
        yield header(name, "counter", help_text)
        for topic, kept in topics:
            topic_label = escape_label_value(topic)
            for event, labels in events.items():
                count = kept.events[event]
                if count or topic not in RESERVED:
                    yield f'{name}{{{labels}topic="{topic_label}"}} {format_count(count)}\n'


def _reason_texts(
    topics: Topics,
    name: str,
    help_text: str,
    counts_of: Callable[[TopicSeries], dict[Reason, int] | dict[Reason, float]],
) -> Iterator[str]:
    """A counter by topic and reason. Most topics have no limits, so what has not happened is left out."""
    yield header(name, "counter", help_text)
    for topic, kept in topics:
        counts = counts_of(kept)
        if counts:
            topic_label = escape_label_value(topic)
            yield "".join(
                f'{name}{{reason="{reason.value}",topic="{topic_label}"}} {format_value(count)}\n'
                for reason, count in counts.items()
            )


def _chore_texts(chores: Chores) -> Iterator[str]:
    yield header(CHORE_FAILURES, "counter", "Number of runs of a chore that failed.")
    for name, chore in chores:
        yield f'{CHORE_FAILURES}{{chore="{name}"}} {format_count(chore.failures)}\n'
    yield header(CHORE_DONE, "gauge", "When a chore was last done, in seconds since 1970.")
    for name, chore in chores:
        if chore.done_at is not None:
            yield f'{CHORE_DONE}{{chore="{name}"}} {format_value(chore.done_at)}\n'


def _operation_texts(operations: Operations) -> Iterator[str]:
    yield header(ENGINE_DURATION, "histogram", "How long an operation of the engine took.")
    for name, operation in operations:
        if not operation.durations.is_empty:
            after_le = f',operation="{name}"'
            yield histogram_samples(ENGINE_DURATION, "", after_le, operation.durations)
    yield header(ENGINE_ERRORS, "counter", "Number of operations that the engine could not carry out.")
    for name, operation in operations:
        yield f'{ENGINE_ERRORS}{{operation="{name}"}} {format_count(operation.errors)}\n'
