"""The text: that a parser gets back what was put in, and that writing it does not hold up the event loop."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterator

import prometheus_client.exposition
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ratus.metrics import CONTENT_TYPE, Metrics
from ratus.metrics.exposition import (
    SLICE_CHARACTERS,
    SLICE_SERIES,
    format_count,
    format_value,
    in_slices,
    sample,
)
from tests.metrics.scraping import scrape, values_of

ENDPOINT = "/v1/topics/:topic/tasks/:id"
METHODS_AND_STATUSES = [
    ("GET", 200),
    ("GET", 404),
    ("POST", 200),
    ("POST", 201),
    ("POST", 409),
    ("PUT", 200),
    ("PUT", 201),
    ("PATCH", 200),
    ("PATCH", 409),
    ("DELETE", 200),
]

label_values = st.text() | st.text(alphabet='\\"\n\r,}{= nle#\x00\x85\u2028')


def many_topics(count: int) -> Metrics:
    metrics = Metrics()
    for number in range(count):
        topic = f"topic-{number}"
        metrics.produced(topic, "p")
        for method, status in METHODS_AND_STATUSES:
            metrics.observe_request(topic, method, ENDPOINT, status, 0.001)
    return metrics


def test_the_content_type_is_that_of_the_text_format() -> None:
    assert CONTENT_TYPE == prometheus_client.exposition.CONTENT_TYPE_PLAIN_0_0_4


@given(
    topic=label_values.filter(lambda text: text not in ("", "other")),
    producer=label_values,
    consumer=label_values,
)
@settings(deadline=None)
def test_every_label_value_comes_back_as_it_was(topic: str, producer: str, consumer: str) -> None:
    metrics = Metrics()
    metrics.produced(topic, producer, 2)
    metrics.consumed(topic, producer, consumer, 0.25)
    metrics.committed(topic, producer, consumer, 0.5)
    metrics.observe_request(topic, "GET", ENDPOINT, 200, 0.75)
    text = scrape(metrics)
    by_task = ("topic", "producer", "consumer")
    assert values_of(text, "ratus_task_produced_count_total", "topic", "producer") == {(topic, producer): 2.0}
    for name, value in (
        ("ratus_task_consumed_count_total", 1.0),
        ("ratus_task_committed_count_total", 1.0),
        ("ratus_task_schedule_delay_seconds", 0.25),
        ("ratus_task_execution_duration_seconds", 0.5),
    ):
        assert values_of(text, name, *by_task) == {(topic, producer, consumer): value}
    labels = ("topic", "method", "endpoint", "status_code")
    assert values_of(text, "ratus_request_duration_seconds_sum", *labels) == {
        (topic, "GET", ENDPOINT, "200"): 0.75
    }


@given(labels=st.dictionaries(st.sampled_from(["a", "le", "topic", "z"]), label_values), value=st.floats())
def test_a_sample_comes_back_as_it_was(labels: dict[str, str], value: float) -> None:
    text = sample("ratus_example", labels, value)
    assert text.count("\n") == 1
    [family] = text_string_to_metric_families(text)
    [found] = family.samples
    assert found.labels == labels
    assert found.value == value or (math.isnan(found.value) and math.isnan(value))


@given(st.integers(0, 10**18) | st.integers(999_990, 1_000_010))
def test_a_count_is_written_as_the_number_it_is(count: int) -> None:
    assert format_count(count) == format_value(float(count))


def test_the_longest_names_are_written_whole() -> None:
    topic = "\\" * 1024
    metrics = Metrics()
    metrics.produced(topic, "é" * 512)
    assert values_of(scrape(metrics), "ratus_task_produced_count_total", "topic", "producer") == {
        (topic, "é" * 512): 1.0
    }


def test_a_name_that_is_not_unicode_does_not_cost_the_other_metrics() -> None:
    metrics = Metrics()
    metrics.produced("broken-\ud800", "p")
    metrics.produced("sound", "p")
    assert values_of(scrape(metrics), "ratus_task_produced_count_total", "topic") == {
        ("broken-?",): 1.0,
        ("sound",): 1.0,
    }


# The event loop is held by work, not by time, so these tests count the work between two turns.


async def turns_during(metrics: Metrics) -> tuple[int, list[bytes]]:
    """How often another task had its turn while the metrics were written, and the pieces."""
    turns = 0

    async def ticker() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(ticker())
    await asyncio.sleep(0)
    pieces = [piece async for piece in metrics.stream()]
    task.cancel()
    return turns, pieces


def test_a_thousand_topics_are_written_in_slices_with_turns_between() -> None:
    metrics = many_topics(1000)
    turns, pieces = asyncio.run(turns_during(metrics))
    text = b"".join(pieces).decode()
    assert text.count("\nratus_request_duration_seconds_count{") == 1000 * len(METHODS_AND_STATUSES)
    assert text.count("\n") > 90_000
    one_series = 9 * 250
    own_process = 4_000
    assert max(map(len, pieces)) <= SLICE_CHARACTERS + one_series + own_process
    assert len(pieces) >= len(text) / (SLICE_CHARACTERS + one_series + own_process)
    assert turns >= len(pieces)


def test_a_render_gives_other_tasks_as_many_turns_as_it_has_slices() -> None:
    metrics = many_topics(200)

    async def both() -> tuple[int, bytes]:
        turns = 0
        rendering = asyncio.create_task(metrics.render())
        while not rendering.done():
            turns += 1
            await asyncio.sleep(0)
        return turns, await rendering

    turns, body = asyncio.run(both())
    assert len(body) > 10 * SLICE_CHARACTERS
    assert turns >= len(body) // (2 * SLICE_CHARACTERS)


@pytest.mark.parametrize(
    ("text", "at_most"), [("", SLICE_SERIES), ("x", SLICE_SERIES), ("x" * SLICE_CHARACTERS, 1)]
)
def test_a_slice_is_bounded_by_series_looked_at_and_by_length(text: str, at_most: int) -> None:
    looked_at: list[int] = [0]

    def texts() -> Iterator[str]:
        for _ in range(3 * at_most):
            looked_at[-1] += 1
            yield text

    async def ticker() -> None:
        while True:
            looked_at.append(0)
            await asyncio.sleep(0)

    async def write() -> bytes:
        task = asyncio.create_task(ticker())
        body = b"".join([piece async for piece in in_slices(texts())])
        task.cancel()
        return body

    body = asyncio.run(write())
    assert body == (text * 3 * at_most).encode()
    assert sum(looked_at) == 3 * at_most
    assert max(looked_at) == at_most


def test_nothing_is_sent_for_series_without_sample() -> None:
    async def write() -> list[bytes]:
        return [piece async for piece in in_slices([""] * (2 * SLICE_SERIES) + ["a"] + [""] * SLICE_SERIES)]

    assert asyncio.run(write()) == [b"a"]


def test_changes_during_a_render_leave_every_histogram_consistent() -> None:
    metrics = many_topics(150)

    async def both() -> bytes:
        rendering = asyncio.create_task(metrics.render())
        number = 0
        while not rendering.done():
            number += 1
            for topic in (f"topic-{number % 150}", f"new-{number}"):
                metrics.consumed(topic, f"p{number}", f"c{number}", 1.0)
                for method, status in METHODS_AND_STATUSES:
                    metrics.observe_request(topic, method, ENDPOINT, status, 7.0)
            metrics.drop_topic(f"topic-{(number * 7) % 150}")
            metrics.produced(f"topic-{(number * 7) % 150}", "again")
            metrics.register(f"ratus_late_{number}", "gauge", "Came late.", lambda: [({}, 1.0)])
            await asyncio.sleep(0)
        assert number > 5
        return await rendering

    text = asyncio.run(both()).decode()
    labels = ("topic", "method", "endpoint", "status_code")
    counts = values_of(text, "ratus_request_duration_seconds_count", *labels)
    sums = values_of(text, "ratus_request_duration_seconds_sum", *labels)
    buckets = values_of(text, "ratus_request_duration_seconds_bucket", *labels, "le")
    assert len(counts) >= 150 * len(METHODS_AND_STATUSES)
    for key, count in counts.items():
        assert buckets[(*key, "+Inf")] == count
        slow = count - buckets[(*key, "5")]
        assert sums[key] == pytest.approx(slow * 7.0 + (count - slow) * 0.001)


def test_a_topic_may_change_while_it_is_being_written() -> None:
    metrics = Metrics()

    def use(number: int) -> None:
        metrics.produced("t", f"p{number}")
        metrics.consumed("t", "p", f"c{number}", 1.0)
        metrics.observe_request("t", "GET", f"/v1/{number}", 200, 0.001)

    series = 900
    for number in range(series):
        use(number)

    async def both() -> bytes:
        nonlocal number
        rendering = asyncio.create_task(metrics.render())
        while not rendering.done():
            number += 1
            use(number)
            await asyncio.sleep(0)
        return await rendering

    body = asyncio.run(both())
    assert number > series + 5
    for name in ("request_duration_seconds_count", "task_consumed_count_total", "task_produced_count_total"):
        assert body.count(f"\nratus_{name}{{".encode()) >= series


def test_renders_at_the_same_time_do_not_disturb_each_other() -> None:
    metrics = many_topics(100)

    async def both() -> tuple[bytes, bytes, bytes]:
        return await asyncio.gather(metrics.render(), metrics.render(), metrics.render())

    def queue_lines(body: bytes) -> list[str]:
        return [line for line in body.decode().split("\n") if line.startswith("ratus_")]

    first, second, third = map(queue_lines, asyncio.run(both()))
    assert first == second == third
    assert len(first) > 9_000


def test_an_abandoned_stream_leaves_nothing_behind() -> None:
    metrics = many_topics(100)

    async def abandon() -> bytes:
        async for _ in metrics.stream():
            break
        return await metrics.render()

    assert b'topic="topic-99"' in asyncio.run(abandon())
