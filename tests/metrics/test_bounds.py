"""How many label values there may be, who takes a place and who gives it back."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ratus.core.transitions import Event
from ratus.metrics import OTHER, Metrics, recorder
from ratus.metrics.series import BoundedLabel
from tests.metrics.scraping import scrape, values_of

ENDPOINT = "/v1/topics/:topic"
PRODUCED = "ratus_task_produced_count_total"
CONSUMED = "ratus_task_consumed_count_total"
COMMITTED = "ratus_task_committed_count_total"
REQUESTS = "ratus_request_duration_seconds_count"


def test_a_request_never_admits_its_topic() -> None:
    metrics = Metrics()
    for number in range(50):
        metrics.observe_request(f"unknown-{number}", "GET", ENDPOINT, 404, 0.001)
    assert values_of(scrape(metrics), REQUESTS, "topic") == {(OTHER,): 50.0}
    assert metrics.topics() == []


@pytest.mark.parametrize("how", ["admit_topic", "produced", "consumed", "committed", "record"])
def test_a_topic_is_admitted_by_its_tasks_or_explicitly(how: str) -> None:
    metrics = Metrics()
    if how == "admit_topic":
        metrics.admit_topic("t")
        metrics.admit_topic("t")
    elif how == "produced":
        metrics.produced("t", "p")
    elif how == "consumed":
        metrics.consumed("t", "p", "c", None)
    elif how == "committed":
        metrics.committed("t", "p", "c", None)
    else:
        metrics.record("t", (Event.LAPSE,))
    assert metrics.topics() == ["t"]
    metrics.observe_request("t", "GET", ENDPOINT, 200, 0.001)
    assert values_of(scrape(metrics), REQUESTS, "topic") == {("t",): 1.0}


def test_admitting_a_topic_again_keeps_its_counts() -> None:
    metrics = Metrics()
    metrics.produced("t", "p")
    metrics.admit_topic("t")
    assert values_of(scrape(metrics), PRODUCED, "topic") == {("t",): 1.0}


def test_each_label_keeps_its_first_values_and_counts_later_ones_as_other() -> None:
    metrics = Metrics(max_label_values=2)
    for number in range(5):
        metrics.consumed(f"t{number}", "p", "c", None)
        metrics.produced("t0", f"p{number}")
        metrics.committed("t0", "p", f"c{number}", None)
    text = scrape(metrics)
    assert values_of(text, CONSUMED, "topic") == {("t0",): 1.0, ("t1",): 1.0, (OTHER,): 3.0}
    assert values_of(text, PRODUCED, "producer") == {("p0",): 1.0, (OTHER,): 4.0}
    assert values_of(text, COMMITTED, "consumer") == {("c0",): 1.0, (OTHER,): 4.0}
    metrics.admit_topic("t4")
    assert metrics.topics() == ["t0", "t1"]


def test_what_is_kept_by_topic_alone_has_the_same_bound() -> None:
    metrics = Metrics(max_label_values=2)
    for number in range(5):
        metrics.consumed(f"t{number}", "p", "c", 1.0)
        metrics.committed(f"t{number}", "p", "c", 1.0)
        metrics.record(f"t{number}", tuple(Event))
    text = scrape(metrics)
    expected = {("t0",): 1.0, ("t1",): 1.0, (OTHER,): 3.0}
    for name in (
        "ratus_topic_schedule_delay_seconds_count",
        "ratus_topic_execution_duration_seconds_count",
        "ratus_topic_failures_total",
        "ratus_topic_retries_total",
        "ratus_topic_lapses_total",
    ):
        assert values_of(text, name, "topic") == expected, name
    assert values_of(text, "ratus_topic_dead_letters_total", "topic", "outcome") == {
        (topic, outcome): count for (topic,), count in expected.items() for outcome in ("failed", "expired")
    }


def test_places_are_free_until_they_are_taken() -> None:
    metrics = Metrics(max_label_values=2)
    assert metrics.free_places == 2
    assert metrics.has_place(OTHER)
    metrics.produced("a", "p")
    assert (metrics.free_places, metrics.has_place("a"), metrics.has_place("b")) == (1, True, False)
    metrics.admit_topic("b")
    metrics.admit_topic("c")
    assert (metrics.free_places, metrics.has_place("b"), metrics.has_place("c")) == (0, True, False)
    metrics.drop_topic("a")
    assert (metrics.free_places, metrics.has_place("a")) == (1, False)


def test_having_no_producer_or_consumer_takes_no_place() -> None:
    metrics = Metrics(max_label_values=1)
    metrics.consumed("t", "", "", None)
    metrics.consumed("t", "p", "c", None)
    metrics.consumed("t", "q", "d", None)
    assert values_of(scrape(metrics), CONSUMED, "producer", "consumer") == {
        ("", ""): 1.0,
        ("p", "c"): 1.0,
        (OTHER, OTHER): 1.0,
    }


def test_a_bound_of_zero_counts_everything_as_other() -> None:
    metrics = Metrics(max_label_values=0)
    metrics.produced("t", "p")
    metrics.consumed("t", "p", "c", 1.0)
    metrics.observe_request("t", "GET", ENDPOINT, 200, 0.001)
    text = scrape(metrics)
    assert values_of(text, PRODUCED, "topic", "producer") == {(OTHER, OTHER): 1.0}
    assert values_of(text, CONSUMED, "topic", "producer", "consumer") == {(OTHER, OTHER, OTHER): 1.0}
    assert values_of(text, REQUESTS, "topic") == {(OTHER,): 1.0}


def test_a_negative_bound_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        Metrics(max_label_values=-1)


def test_dropping_a_topic_removes_all_its_series_and_frees_its_places() -> None:
    metrics = Metrics(max_label_values=1)
    metrics.produced("gone", "gone-producer")
    metrics.consumed("gone", "gone-producer", "gone-consumer", 1.0)
    metrics.committed("gone", "gone-producer", "gone-consumer", 1.0)
    metrics.observe_request("gone", "GET", ENDPOINT, 200, 0.001)
    metrics.record("gone", tuple(Event))
    metrics.drop_topic("gone")
    metrics.drop_topic("gone")
    assert metrics.topics() == []
    assert "gone" not in scrape(metrics)
    metrics.consumed("new", "new-producer", "new-consumer", None)
    metrics.observe_request("gone", "DELETE", ENDPOINT, 200, 0.001)
    text = scrape(metrics)
    assert values_of(text, CONSUMED, "topic", "producer", "consumer") == {
        ("new", "new-producer", "new-consumer"): 1.0
    }
    assert values_of(text, REQUESTS, "topic") == {(OTHER,): 1.0}


def test_a_producer_keeps_its_place_while_another_topic_uses_it() -> None:
    metrics = Metrics(max_label_values=2)
    metrics.produced("a", "p")
    metrics.produced("a", "q")
    metrics.produced("b", "p")
    metrics.drop_topic("a")
    for producer in ("r", "s"):
        metrics.produced("b", producer)
    assert values_of(scrape(metrics), PRODUCED, "producer") == {("p",): 1.0, ("r",): 1.0, (OTHER,): 1.0}


def test_a_topic_that_comes_back_starts_at_zero() -> None:
    metrics = Metrics()
    metrics.produced("t", "p", 5)
    metrics.drop_topic("t")
    metrics.produced("t", "p")
    assert values_of(scrape(metrics), PRODUCED, "topic") == {("t",): 1.0}


@pytest.mark.parametrize("reserved", ["", OTHER])
def test_reserved_topics_are_neither_listed_nor_dropped_and_take_no_place(reserved: str) -> None:
    metrics = Metrics(max_label_values=1)
    metrics.produced(reserved, "p")
    metrics.admit_topic(reserved)
    assert metrics.topics() == []
    metrics.drop_topic(reserved)
    metrics.produced("t", "p")
    assert values_of(scrape(metrics), PRODUCED, "topic") == {(reserved,): 1.0, ("t",): 1.0}


def test_the_number_of_combinations_is_bounded_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "MAX_TASK_SERIES", 20)
    metrics = Metrics()
    for number in range(100):
        metrics.consumed("t", f"p{number}", f"c{number % 7}", None)
        metrics.produced("t", f"q{number}")
    text = scrape(metrics)
    consumed = values_of(text, CONSUMED, "producer", "consumer")
    produced = values_of(text, PRODUCED, "producer")
    assert len(consumed) + len(produced) <= 20 + 2
    assert sum(consumed.values()) == sum(produced.values()) == 100
    assert consumed[OTHER, OTHER] == 90
    assert produced[OTHER,] == 90
    metrics.drop_topic("t")
    metrics.consumed("t", "p99", "c", None)
    assert values_of(scrape(metrics), CONSUMED, "producer", "consumer") == {("p99", "c"): 1.0}


def test_all_series_share_one_copy_of_a_name() -> None:
    label = BoundedLabel(2)
    first_topic: set[str] = set()
    second_topic: set[str] = set()

    def copy() -> str:
        return b"a long name".decode()

    name = label.use(copy(), first_topic)
    assert copy() is not name
    assert label.use(copy(), first_topic) is name
    assert label.use(copy(), second_topic) is name
    label.release(first_topic)
    assert label.use(copy(), second_topic) is name
    label.release(second_topic)
    assert label.use(copy(), set()) is not name


LIMIT = 3
names = st.sampled_from(["", OTHER, "a", "b", "c", "d", "e", "f"])


class Bounds(RuleBasedStateMachine):
    """Metrics against a model that finds every place by looking at all series there are."""

    def __init__(self) -> None:
        super().__init__()
        self.metrics = Metrics(max_label_values=LIMIT)
        self.topics: list[str] = []
        self.counts: dict[str, dict[tuple[str, ...], float]] = {PRODUCED: {}, CONSUMED: {}, COMMITTED: {}}
        self.requests: dict[tuple[str, ...], float] = {}

    def topic_label(self, topic: str, admit: bool) -> str:
        if topic in ("", OTHER) or topic in self.topics:
            return topic
        if admit and len(self.topics) < LIMIT:
            self.topics.append(topic)
            return topic
        return OTHER

    def label(self, value: str, position: int, names: tuple[str, ...]) -> str:
        taken = {key[position] for name in names for key in self.counts[name]} - {"", OTHER}
        return value if value in taken | {"", OTHER} or len(taken) < LIMIT else OTHER

    def add(self, name: str, topic: str, producer: str, consumer: str | None, count: int) -> None:
        key = [self.topic_label(topic, admit=True), self.label(producer, 1, (PRODUCED, CONSUMED, COMMITTED))]
        if consumer is not None:
            key.append(self.label(consumer, 2, (CONSUMED, COMMITTED)))
        self.counts[name][tuple(key)] = self.counts[name].get(tuple(key), 0.0) + count

    @rule(topic=names, producer=names, count=st.integers(1, 5))
    def produced(self, topic: str, producer: str, count: int) -> None:
        self.metrics.produced(topic, producer, count)
        self.add(PRODUCED, topic, producer, None, count)

    @rule(topic=names, producer=names, consumer=names)
    def consumed(self, topic: str, producer: str, consumer: str) -> None:
        self.metrics.consumed(topic, producer, consumer, 1.0)
        self.add(CONSUMED, topic, producer, consumer, 1)

    @rule(topic=names, producer=names, consumer=names)
    def committed(self, topic: str, producer: str, consumer: str) -> None:
        self.metrics.committed(topic, producer, consumer, 1.0)
        self.add(COMMITTED, topic, producer, consumer, 1)

    @rule(topic=names, status=st.sampled_from([200, 404]))
    def request(self, topic: str, status: int) -> None:
        self.metrics.observe_request(topic, "GET", ENDPOINT, status, 0.1)
        key = (self.topic_label(topic, admit=False), str(status))
        self.requests[key] = self.requests.get(key, 0.0) + 1

    @rule(topic=names)
    def admit(self, topic: str) -> None:
        self.metrics.admit_topic(topic)
        self.topic_label(topic, admit=True)

    @precondition(lambda self: self.topics)
    @rule(topic=names)
    def drop(self, topic: str) -> None:
        self.metrics.drop_topic(topic)
        if topic in self.topics:
            self.topics.remove(topic)
            for counts in (*self.counts.values(), self.requests):
                for key in [key for key in counts if key[0] == topic]:
                    del counts[key]

    @invariant()
    def topics_are_those_admitted(self) -> None:
        assert self.metrics.topics() == self.topics

    @rule()
    def scraped(self) -> None:
        self.compare()

    def teardown(self) -> None:
        self.compare()

    def compare(self) -> None:
        text = scrape(self.metrics)
        assert values_of(text, PRODUCED, "topic", "producer") == self.counts[PRODUCED]
        for name in (CONSUMED, COMMITTED):
            assert values_of(text, name, "topic", "producer", "consumer") == self.counts[name]
        assert values_of(text, REQUESTS, "topic", "status_code") == self.requests


TestBounds = Bounds.TestCase
TestBounds.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
