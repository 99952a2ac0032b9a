"""Values that are asked for when the metrics are scraped."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from ratus.metrics import Metrics
from tests.metrics.scraping import scrape, values_of


def test_a_registered_metric_is_collected_at_each_scrape() -> None:
    metrics = Metrics()
    depth = {"a": 1.0}
    metrics.register(
        "ratus_example_tasks",
        "gauge",
        "Tasks by\ntopic \\ state.",
        lambda: (({"topic": topic, "state": 'pen"ding'}, value) for topic, value in depth.items()),
    )
    metrics.register("ratus_example_total", "counter", "Without labels.", lambda: [({}, 12.0)])
    text = scrape(metrics)
    assert (
        "# HELP ratus_example_tasks Tasks by\\ntopic \\\\ state.\n# TYPE ratus_example_tasks gauge\n" in text
    )
    assert 'ratus_example_tasks{state="pen\\"ding",topic="a"} 1.0\n' in text
    assert "# TYPE ratus_example_total counter\nratus_example_total 12.0\n" in text
    depth.update(a=2.0, b=3.0)
    assert values_of(scrape(metrics), "ratus_example_tasks", "topic") == {("a",): 2.0, ("b",): 3.0}


def test_a_collector_that_fails_is_logged_and_costs_only_its_own_metric(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken() -> Iterator[tuple[dict[str, str], float]]:
        yield {}, 1.0
        raise RuntimeError("no database")

    used = Metrics()
    used.consumed("t", "p", "c", 1.5)
    used.register("ratus_broken", "gauge", "Breaks.", broken)
    used.register("ratus_sound", "gauge", "Does not.", lambda: [({}, 1.0)])
    with caplog.at_level(logging.ERROR):
        text = scrape(used)
    assert "ratus_broken" not in text
    assert "ratus_sound 1.0\n" in text
    assert "ratus_task_consumed_count_total{" in text
    assert "ratus_broken" in caplog.text
    assert "no database" in caplog.text


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("", "gauge", "must be letters"),
        ("1st", "gauge", "must be letters"),
        ("with space", "gauge", "must be letters"),
        ("newline\n", "gauge", "must be letters"),
        ("ratus_task_consumed_count_total", "counter", "already"),
        ("ratus_build_info", "gauge", "already"),
        ("ratus_example", "histogram", "must be 'counter' or 'gauge'"),
        ("ratus_example", "counter", "must end in '_total'"),
    ],
)
def test_a_metric_that_would_spoil_the_text_is_refused(name: str, kind: Any, message: str) -> None:
    metrics = Metrics()
    with pytest.raises(ValueError, match=message):
        metrics.register(name, kind, "Help.", lambda: [({}, 1.0)])
    assert "ratus_example" not in scrape(metrics)
