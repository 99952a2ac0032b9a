"""What is counted, and under which names and labels."""

from __future__ import annotations

import asyncio
import platform

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, generate_latest
from prometheus_client import Histogram as LibraryHistogram
from prometheus_client.parser import text_string_to_metric_families

from ratus import __version__
from ratus.core.transitions import Event
from ratus.core.turns import Reason
from ratus.metrics import OTHER, Metrics
from tests.metrics.scraping import samples_of, scrape, values_of

ENDPOINT = "/v1/topics/:topic/tasks/:id"
BUCKETS = ["0.01", "0.1", "0.5", "1", "2", "5", "+Inf"]

TASK_BUCKETS = "0.001 0.01 0.1 0.5 1 5 10 30 60 300 900 3600 14400 +Inf"
ENGINE_BUCKETS = "0.0001 0.0005 0.001 0.0025 0.005 0.01 0.025 0.1 0.5 1 5 +Inf"

# Name, type and labels of every metric that is counted here. What dashboards made for Ratus rely on:
RATUS = {
    "ratus_request_duration_seconds": ("histogram", {"topic", "method", "endpoint", "status_code"}),
    "ratus_chore_duration_seconds": ("histogram", set()),
    "ratus_task_schedule_delay_seconds": ("gauge", {"topic", "producer", "consumer"}),
    "ratus_task_execution_duration_seconds": ("gauge", {"topic", "producer", "consumer"}),
    "ratus_task_produced_count_total": ("counter", {"topic", "producer"}),
    "ratus_task_consumed_count_total": ("counter", {"topic", "producer", "consumer"}),
    "ratus_task_committed_count_total": ("counter", {"topic", "producer", "consumer"}),
}
# What ours rely on:
CONTRACT = {
    **RATUS,
    "ratus_topic_schedule_delay_seconds": ("histogram", {"topic"}),
    "ratus_topic_execution_duration_seconds": ("histogram", {"topic"}),
    "ratus_topic_failures_total": ("counter", {"topic"}),
    "ratus_topic_retries_total": ("counter", {"topic"}),
    "ratus_topic_lapses_total": ("counter", {"topic"}),
    "ratus_topic_dead_letters_total": ("counter", {"topic", "outcome"}),
    "ratus_topic_claims_refused_total": ("counter", {"topic", "reason"}),
    "ratus_topic_closed_seconds_total": ("counter", {"topic", "reason"}),
    "ratus_chore_failures_total": ("counter", {"chore"}),
    "ratus_chore_last_success_timestamp_seconds": ("gauge", {"chore"}),
    "ratus_engine_duration_seconds": ("histogram", {"operation"}),
    "ratus_engine_errors_total": ("counter", {"operation"}),
}


@pytest.fixture
def used() -> Metrics:
    metrics = Metrics()
    metrics.produced("t", "p")
    metrics.consumed("t", "p", "c", 1.5)
    metrics.committed("t", "p", "c", 2.5)
    metrics.observe_request("t", "POST", ENDPOINT, 201, 0.003)
    metrics.refused("t", Reason.RATE)
    metrics.closed("t", Reason.RATE, 2.5)
    metrics.observe_chore(0.2)
    metrics.chore("recover").done_at = 1_800_000_000.5
    metrics.operation("claim").durations.observe(0.0002)
    return metrics


def test_names_types_and_labels_are_those_of_the_contract(used: Metrics) -> None:
    text = scrape(used)
    found = {}
    for family in text_string_to_metric_families(text):
        if family.name.startswith("ratus_"):
            name = family.name + ("_total" if family.type == "counter" else "")
            found[name] = (
                family.type,
                {label for sample in family.samples for label in sample.labels} - {"le"},
            )
    assert found.pop("ratus_build_info") == ("gauge", {"version", "python", "engine"})
    assert found == CONTRACT


@pytest.mark.parametrize("name", CONTRACT)
def test_every_metric_has_one_help_and_one_type_line(used: Metrics, name: str) -> None:
    for metrics in (used, Metrics()):
        lines = scrape(metrics).splitlines()
        assert lines.count(f"# TYPE {name} {CONTRACT[name][0]}") == 1
        assert len([line for line in lines if line.startswith(f"# HELP {name} ")]) == 1


@pytest.mark.parametrize("name", ["ratus_request_duration_seconds", "ratus_chore_duration_seconds"])
def test_buckets_are_spelled_as_ratus_spells_them(used: Metrics, name: str) -> None:
    assert [sample.labels["le"] for sample in samples_of(scrape(used), f"{name}_bucket")] == BUCKETS


@pytest.mark.parametrize(
    ("name", "buckets"),
    [
        ("ratus_topic_schedule_delay_seconds", TASK_BUCKETS),
        ("ratus_topic_execution_duration_seconds", TASK_BUCKETS),
        ("ratus_engine_duration_seconds", ENGINE_BUCKETS),
    ],
)
def test_buckets_of_our_own(used: Metrics, name: str, buckets: str) -> None:
    text = scrape(used)
    assert " ".join(sample.labels["le"] for sample in samples_of(text, f"{name}_bucket")) == buckets
    assert [sample.value for sample in samples_of(text, f"{name}_count")] == [1.0]


def test_a_new_server_has_a_chore_histogram_of_zeros_and_no_labelled_series() -> None:
    text = scrape(Metrics())
    assert "ratus_chore_duration_seconds_count 0.0\nratus_chore_duration_seconds_sum 0.0\n" in text
    assert 'ratus_chore_duration_seconds_bucket{le="+Inf"} 0.0\n' in text
    assert "topic=" not in text


@pytest.mark.parametrize(
    ("seconds", "first_bucket"),
    [
        (0.0, "0.01"),
        (0.01, "0.01"),
        (0.0101, "0.1"),
        (0.5, "0.5"),
        (1.0, "1"),
        (2.5, "5"),
        (5.0, "5"),
        (6.0, "+Inf"),
    ],
)
def test_an_observation_counts_in_its_bucket_and_all_above(seconds: float, first_bucket: str) -> None:
    metrics = Metrics()
    metrics.observe_chore(seconds)
    text = scrape(metrics)
    reached = BUCKETS.index(first_bucket)
    assert values_of(text, "ratus_chore_duration_seconds_bucket", "le") == {
        (bound,): float(index >= reached) for index, bound in enumerate(BUCKETS)
    }
    assert values_of(text, "ratus_chore_duration_seconds_count") == {(): 1.0}
    assert values_of(text, "ratus_chore_duration_seconds_sum") == {(): seconds}


def test_the_recorded_scenario_of_a_real_ratus() -> None:
    """The requests of the corpus scenario "metrics", as the api reports them (batches counted per task)."""
    metrics = Metrics()
    promises = "/v1/topics/:topic/promises"
    tasks = "/v1/topics/:topic/tasks"

    def request(method: str, endpoint: str, status: int) -> None:
        metrics.observe_request("t", method, endpoint, status, 0.001)

    metrics.produced("t", "p1")
    request("POST", ENDPOINT, 201)
    metrics.produced("t", "p2")
    request("PUT", ENDPOINT, 201)
    metrics.produced("t", "p2")
    request("PUT", ENDPOINT, 200)
    metrics.produced("t", "p3", 3)
    request("POST", tasks, 201)
    request("POST", tasks, 200)
    request("POST", ENDPOINT, 409)
    metrics.consumed("t", "p1", "c1", 1e8)
    request("POST", promises, 200)
    metrics.committed("t", "p1", "c1", 0.01)
    request("PATCH", ENDPOINT, 200)
    metrics.consumed("t", "p2", "", 0.01)
    request("POST", promises + "/:id", 200)
    metrics.committed("t", "p3", "", None)
    request("PATCH", ENDPOINT, 200)
    request("GET", ENDPOINT, 404)
    request("GET", tasks, 400)
    request("GET", "/topics/:topic", 200)

    text = scrape(metrics)
    assert values_of(text, "ratus_task_produced_count_total", "producer", "topic") == {
        ("p1", "t"): 1.0,
        ("p2", "t"): 2.0,
        ("p3", "t"): 3.0,
    }
    by_task = ("consumer", "producer", "topic")
    assert values_of(text, "ratus_task_consumed_count_total", *by_task) == {
        ("", "p2", "t"): 1.0,
        ("c1", "p1", "t"): 1.0,
    }
    assert values_of(text, "ratus_task_committed_count_total", *by_task) == {
        ("", "p3", "t"): 1.0,
        ("c1", "p1", "t"): 1.0,
    }
    assert values_of(text, "ratus_task_schedule_delay_seconds", *by_task) == {
        ("", "p2", "t"): 0.01,
        ("c1", "p1", "t"): 1e8,
    }
    assert values_of(text, "ratus_task_execution_duration_seconds", *by_task) == {("c1", "p1", "t"): 0.01}
    requests = values_of(
        text, "ratus_request_duration_seconds_count", "endpoint", "method", "status_code", "topic"
    )
    assert requests == {
        ("/topics/:topic", "GET", "200", "t"): 1.0,
        ("/v1/topics/:topic/promises", "POST", "200", "t"): 1.0,
        ("/v1/topics/:topic/promises/:id", "POST", "200", "t"): 1.0,
        ("/v1/topics/:topic/tasks", "GET", "400", "t"): 1.0,
        ("/v1/topics/:topic/tasks", "POST", "200", "t"): 1.0,
        ("/v1/topics/:topic/tasks", "POST", "201", "t"): 1.0,
        ("/v1/topics/:topic/tasks/:id", "GET", "404", "t"): 1.0,
        ("/v1/topics/:topic/tasks/:id", "PATCH", "200", "t"): 2.0,
        ("/v1/topics/:topic/tasks/:id", "POST", "201", "t"): 1.0,
        ("/v1/topics/:topic/tasks/:id", "POST", "409", "t"): 1.0,
        ("/v1/topics/:topic/tasks/:id", "PUT", "200", "t"): 1.0,
        ("/v1/topics/:topic/tasks/:id", "PUT", "201", "t"): 1.0,
    }


def test_gauges_hold_the_last_value_and_none_changes_nothing() -> None:
    metrics = Metrics()
    metrics.consumed("t", "p", "c", 5.0)
    metrics.consumed("t", "p", "c", 0.0)
    metrics.consumed("t", "p", "c", None)
    metrics.committed("t", "p", "c", 7.0)
    metrics.committed("t", "p", "c", 3.0)
    metrics.committed("t", "p", "c", None)
    text = scrape(metrics)
    assert values_of(text, "ratus_task_schedule_delay_seconds") == {(): 0.0}
    assert values_of(text, "ratus_task_execution_duration_seconds") == {(): 3.0}
    assert values_of(text, "ratus_task_consumed_count_total") == {(): 3.0}
    assert values_of(text, "ratus_task_committed_count_total") == {(): 3.0}


def test_a_route_without_topic_has_an_empty_topic_label() -> None:
    metrics = Metrics()
    metrics.observe_request(None, "GET", "/v1/topics", 200, 0.001)
    metrics.observe_request("", "GET", "/v1/topics", 200, 0.001)
    assert values_of(scrape(metrics), "ratus_request_duration_seconds_count", "topic") == {("",): 2.0}
    assert metrics.topics() == []


def test_a_method_that_nobody_knows_counts_as_other() -> None:
    metrics = Metrics()
    for method in ("GET", "BREW", "SPLIT\n", "BREW"):
        metrics.observe_request(None, method, "/v1/topics", 405, 0.001)
    counts = values_of(scrape(metrics), "ratus_request_duration_seconds_count", "method")
    assert counts == {("GET",): 1.0, ("other",): 3.0}


def test_two_servers_in_one_process_share_nothing(used: Metrics) -> None:
    assert "topic=" not in scrape(Metrics())
    another = Metrics()
    another.produced("elsewhere", "p")
    assert "elsewhere" not in scrape(used)
    another.register("ratus_example", "gauge", "An example.", lambda: [({}, 1.0)])
    assert "ratus_example" not in scrape(used)


def test_what_a_library_registers_for_the_whole_process_is_not_told() -> None:
    gauge = Gauge("somebody_else", "Of another program in this process.")
    try:
        assert "somebody_else" not in scrape(Metrics())
    finally:
        REGISTRY.unregister(gauge)


def test_the_process_the_interpreter_and_the_version_are_told(used: Metrics) -> None:
    text = scrape(used)
    labels = f'engine="",python="{platform.python_version()}",version="{__version__}"'
    assert f"ratus_build_info{{{labels}}} 1.0\n" in text
    assert 'ratus_build_info{engine="memdb",' in scrape(Metrics(engine="memdb"))
    assert 'python_info{implementation="' in text
    assert values_of(text, "python_gc_collections_total", "generation").keys() >= {("0",), ("1",), ("2",)}
    assert "process_" in text


def test_the_text_is_what_the_client_library_would_write() -> None:
    """The same numbers in prometheus_client give the same lines, but for the spelling of whole bounds."""
    registry = CollectorRegistry()
    durations = LibraryHistogram(
        "ratus_request_duration_seconds",
        "How long answering a request took.",
        ["topic", "method", "endpoint", "status_code"],
        buckets=(0.01, 0.1, 0.5, 1, 2, 5),
        registry=registry,
    )
    produced = Counter(
        "ratus_task_produced_count", "Number of tasks accepted.", ["topic", "producer"], registry=registry
    )
    delays = Gauge(
        "ratus_task_schedule_delay_seconds",
        "How long after its scheduled time the last task was claimed.",
        ["topic", "producer", "consumer"],
        registry=registry,
    )
    metrics = Metrics()
    topics = ["plain", 'quo"te', "back\\slash", "new\nline", "\\n", "ünï ☃", "a,b}{=", "tab\t\r end "]
    for index, topic in enumerate(topics):
        count = 10**index + index
        metrics.produced(topic, topic, count)
        produced.labels(topic, topic).inc(count)
        delay = 3.0 ** (index * 5) * (-1) ** index / 7
        metrics.consumed(topic, topic, topic, delay)
        delays.labels(topic, topic, topic).set(delay)
        for seconds in (0.001 * index, 0.5, 1.0, 70.0):
            metrics.observe_request(topic, "GET", ENDPOINT, 200 + index, seconds)
            durations.labels(topic, "GET", ENDPOINT, 200 + index).observe(seconds)

    def lines(text: str) -> list[str]:
        names = ("ratus_request", "ratus_task_produced", "ratus_task_schedule")
        return sorted(
            line
            for line in text.split("\n")
            if line.removeprefix("# HELP ").removeprefix("# TYPE ").startswith(names)
            and "_created" not in line
        )

    expected = generate_latest(registry).decode()
    for whole in ("1", "2", "5"):
        expected = expected.replace(f'le="{whole}.0"', f'le="{whole}"')
    ours = lines(scrape(metrics))
    assert len(ours) == 3 * 2 + len(topics) * (9 + 1 + 1)
    assert ours == lines(expected)


# By topic alone.


def test_delays_and_executions_are_kept_by_topic_whoever_it_was() -> None:
    metrics = Metrics()
    metrics.consumed("t", "p", "c", 0.05)
    metrics.consumed("t", "q", "d", 7200.0)
    metrics.consumed("t", "q", "d", None)
    metrics.consumed("u", "p", "c", 0.0005)
    metrics.committed("t", "p", "c", 61.0)
    metrics.committed("t", "p", "c", None)
    text = scrape(metrics)
    delay, execution = "ratus_topic_schedule_delay_seconds", "ratus_topic_execution_duration_seconds"
    assert values_of(text, f"{delay}_count", "topic") == {("t",): 2.0, ("u",): 1.0}
    assert values_of(text, f"{delay}_sum", "topic") == {("t",): 7200.05, ("u",): 0.0005}
    buckets = values_of(text, f"{delay}_bucket", "topic", "le")
    assert (buckets["t", "0.01"], buckets["t", "0.1"], buckets["t", "3600"]) == (0.0, 1.0, 1.0)
    assert (buckets["t", "14400"], buckets["u", "0.001"]) == (2.0, 1.0)
    assert values_of(text, f"{execution}_sum", "topic") == {("t",): 61.0}


def test_a_task_that_was_claimed_before_its_time_did_not_wait() -> None:
    metrics = Metrics()
    metrics.consumed("t", "p", "c", -30.0)
    metrics.committed("t", "p", "c", -1.0)  # the clock was set back
    text = scrape(metrics)
    assert values_of(text, "ratus_topic_schedule_delay_seconds_sum") == {(): 0.0}
    assert values_of(text, "ratus_topic_schedule_delay_seconds_bucket", "le")["0.001",] == 1.0
    assert values_of(text, "ratus_topic_execution_duration_seconds_sum") == {(): 0.0}
    assert values_of(text, "ratus_task_schedule_delay_seconds") == {(): -30.0}


def test_events_are_counted_under_the_names_that_operators_know() -> None:
    metrics = Metrics()
    metrics.record("t", (Event.FAILURE, Event.RETRY))
    metrics.record("t", (Event.FAILURE, Event.DEAD_FAILED))
    metrics.record("t", (Event.FAILURE,))
    metrics.record("u", (Event.LAPSE, Event.RETRY))
    metrics.record("u", (Event.DEAD_EXPIRED,))
    text = scrape(metrics)
    assert values_of(text, "ratus_topic_failures_total", "topic") == {("t",): 3.0, ("u",): 0.0}
    assert values_of(text, "ratus_topic_retries_total", "topic") == {("t",): 1.0, ("u",): 1.0}
    assert values_of(text, "ratus_topic_lapses_total", "topic") == {("t",): 0.0, ("u",): 1.0}
    assert values_of(text, "ratus_topic_dead_letters_total", "topic", "outcome") == {
        ("t", "failed"): 1.0,
        ("t", "expired"): 0.0,
        ("u", "failed"): 0.0,
        ("u", "expired"): 1.0,
    }


def test_counters_of_a_topic_begin_with_zero_but_those_of_no_topic_are_not_told() -> None:
    metrics = Metrics(max_label_values=1)
    metrics.admit_topic("t")
    for name in ("failures", "retries", "lapses"):
        assert values_of(scrape(metrics), f"ratus_topic_{name}_total", "topic") == {("t",): 0.0}
    metrics.record("no place", (Event.LAPSE, Event.RETRY))
    text = scrape(metrics)
    assert values_of(text, "ratus_topic_lapses_total", "topic") == {("t",): 0.0, (OTHER,): 1.0}
    assert values_of(text, "ratus_topic_failures_total", "topic") == {("t",): 0.0}


def test_refused_claims_and_closed_time_are_counted_by_reason() -> None:
    metrics = Metrics(2)
    metrics.refused("t", Reason.RATE)
    metrics.refused("t", Reason.RATE)
    metrics.refused("u", Reason.ORDERED)
    metrics.refused("a third", Reason.HOLD)
    metrics.closed("t", Reason.HOLD, 1.5)
    metrics.closed("t", Reason.HOLD, 2.0)
    metrics.closed("a third", Reason.HOLD, 2.0)  # it has no place
    text = scrape(metrics)
    assert values_of(text, "ratus_topic_claims_refused_total", "topic", "reason") == {
        ("t", "rate"): 2,
        ("u", "ordered"): 1,
        ("other", "hold"): 1,
    }
    assert values_of(text, "ratus_topic_closed_seconds_total", "topic", "reason") == {("t", "hold"): 3.5}


def test_a_chore_is_told_from_the_beginning_but_not_when_it_was_done() -> None:
    metrics = Metrics()
    recover = metrics.chore("recover")
    text = scrape(metrics)
    assert values_of(text, "ratus_chore_failures_total", "chore") == {("recover",): 0.0}
    assert values_of(text, "ratus_chore_last_success_timestamp_seconds", "chore") == {}
    recover.failures += 2
    recover.done_at = 1_800_000_000.25
    assert metrics.chore("recover") is recover
    text = scrape(metrics)
    assert values_of(text, "ratus_chore_failures_total", "chore") == {("recover",): 2.0}
    assert values_of(text, "ratus_chore_last_success_timestamp_seconds", "chore") == {
        ("recover",): 1_800_000_000.25
    }


def test_a_name_too_long_to_be_kept_counts_as_other() -> None:
    metrics = Metrics()
    metrics.produced("topic", "p" * 1024)
    metrics.produced("topic", "p" * 1025)
    metrics.consumed("topic", "p" * 1025, "c" * 1025, None)
    text = asyncio.run(metrics.render()).decode()
    assert f'ratus_task_produced_count_total{{producer="{"p" * 1024}",topic="topic"}} 1.0' in text
    assert 'ratus_task_produced_count_total{producer="other",topic="topic"} 1.0' in text
    assert "p" * 1025 not in text
    assert "c" * 1025 not in text
