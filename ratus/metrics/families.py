"""The metrics that every server has: their names, their labels, and how they are written down.

Names, types and labels are those of Ratus, so that its dashboards and alerts work unchanged.

A scrape is a generator that stops between any two series while other tasks run and count. So nothing here
iterates over a dictionary, only over lists made from it. A topic that is dropped meanwhile is still written,
from its own object, which nobody changes any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ratus.metrics.exposition import escape_label_value, format_count, format_value, header, histogram_samples
from ratus.metrics.series import ConsumerSeries, Histogram, TopicSeries

REQUEST_DURATION = "ratus_request_duration_seconds"
CHORE_DURATION = "ratus_chore_duration_seconds"
SCHEDULE_DELAY = "ratus_task_schedule_delay_seconds"
EXECUTION_DURATION = "ratus_task_execution_duration_seconds"
PRODUCED_COUNT = "ratus_task_produced_count_total"
CONSUMED_COUNT = "ratus_task_consumed_count_total"
COMMITTED_COUNT = "ratus_task_committed_count_total"

NAMES = frozenset(
    (
        REQUEST_DURATION,
        CHORE_DURATION,
        SCHEDULE_DELAY,
        EXECUTION_DURATION,
        PRODUCED_COUNT,
        CONSUMED_COUNT,
        COMMITTED_COUNT,
    )
)

Topics = list[tuple[str, TopicSeries]]


def family_texts(topics: Topics, chores: Histogram) -> Iterator[str]:
    """The text of all these metrics, family after family, one series at a time."""
    yield from _request_texts(topics)
    yield header(CHORE_DURATION, "histogram", "How long a run of the chores took.")
    yield histogram_samples(CHORE_DURATION, "", "", chores)
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
