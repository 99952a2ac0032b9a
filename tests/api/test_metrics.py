"""What is counted, under which names and labels, seen from outside."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.metrics.scraping import samples_of, values_of
from tests.servers import Api, assert_error, eventually, serving

LABELS = {
    "ratus_request_duration_seconds": ("histogram", {"topic", "method", "endpoint", "status_code"}),
    "ratus_chore_duration_seconds": ("histogram", set()),
    "ratus_task_schedule_delay_seconds": ("gauge", {"topic", "producer", "consumer"}),
    "ratus_task_execution_duration_seconds": ("gauge", {"topic", "producer", "consumer"}),
    "ratus_task_produced_count_total": ("counter", {"topic", "producer"}),
    "ratus_task_consumed_count_total": ("counter", {"topic", "producer", "consumer"}),
    "ratus_task_committed_count_total": ("counter", {"topic", "producer", "consumer"}),
}


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """A server of the test's own, so that it knows everything that was ever counted."""
    with serving(tmp_path, "--chore-interval", "0") as server, Api(server.port) as client:
        yield client


def scrape(api: Api, target: str = "/metrics") -> str:
    answer = api.get(target)
    assert answer.status == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    return answer.body.decode()


def test_a_known_sequence(api: Api) -> None:
    api.insert("t", "1", producer="p")
    api.insert("t", "2", producer="p", scheduled="2001-01-01T00:00:00Z")
    assert_error(api.post("/v1/topics/t/tasks/1", {"producer": "p"}), 409)
    api.put("/topics/t/tasks/3", {})
    api.put("/topics/t/tasks/3", {"producer": "q"})
    api.post("/topics/t/tasks", {"data": [{"_id": "1", "producer": "late"}, {"_id": "4", "topic": "u"}]})
    api.put("/topics/t/tasks", {"data": [{"_id": "4", "topic": "u"}, {"_id": "5", "producer": "p"}]})
    first = api.claim("t", consumer="c")
    assert first["_id"] == "2"
    api.post("/v1/topics/t/promises?limit=2&consumer=d")
    api.post("/promises", {"topics": ["none", "u"]})
    assert_error(api.post("/promises", {"topics": ["none"]}), 404)
    api.commit("2", nonce=first["nonce"])
    assert_error(api.patch("/v1/topics//tasks/1", {"nonce": "wrong"}), 409)
    api.patch("/topics//tasks", {"data": [{"_id": "1"}, {"_id": "none"}, {"_id": "4", "error": "e"}]})
    text = scrape(api)

    families = {family.name: family for family in text_string_to_metric_families(text)}
    for name, (kind, labels) in LABELS.items():
        family = families[name.removesuffix("_total")]
        assert family.type == kind, name
        assert all(set(sample.labels) - {"le"} == labels for sample in family.samples), name
    assert values_of(text, "ratus_task_produced_count_total", "topic", "producer") == {
        ("t", "p"): 3,
        ("t", ""): 1,
        ("t", "q"): 1,
        ("u", ""): 2,
    }
    assert values_of(text, "ratus_task_consumed_count_total", "topic", "producer", "consumer") == {
        ("t", "p", "c"): 1,
        ("t", "p", "d"): 1,
        ("t", "q", "d"): 1,
        ("u", "", ""): 1,
    }
    assert values_of(text, "ratus_task_committed_count_total", "topic", "producer", "consumer") == {
        ("t", "p", "c"): 1,
        ("t", "p", "d"): 1,
        ("u", "", ""): 1,
    }
    delays = values_of(text, "ratus_task_schedule_delay_seconds", "topic", "producer", "consumer")
    assert delays["t", "p", "c"] > 20 * 365 * 86_400
    assert 0 <= delays["t", "p", "d"] < 5
    durations = values_of(text, "ratus_task_execution_duration_seconds", "topic", "producer", "consumer")
    assert all(0 <= seconds < 5 for seconds in durations.values())
    assert len(durations) == 3

    requests = values_of(
        text, "ratus_request_duration_seconds_count", "topic", "method", "endpoint", "status_code"
    )
    assert requests["t", "POST", "/v1/topics/:topic/tasks/:id", "201"] == 2
    assert requests["t", "POST", "/v1/topics/:topic/tasks/:id", "409"] == 1
    assert requests["t", "PUT", "/topics/:topic/tasks/:id", "201"] == 1
    assert requests["t", "PUT", "/topics/:topic/tasks/:id", "200"] == 1
    assert requests["t", "POST", "/v1/topics/:topic/promises", "200"] == 2
    assert requests["", "POST", "/promises", "200"] == 1
    assert requests["", "POST", "/promises", "404"] == 1
    assert requests["", "PATCH", "/v1/topics/:topic/tasks/:id", "409"] == 1
    buckets = {sample.labels["le"] for sample in samples_of(text, "ratus_request_duration_seconds_bucket")}
    assert buckets == {"0.01", "0.1", "0.5", "1", "2", "5", "+Inf"}


def test_the_endpoint_is_a_pattern_and_never_a_path(api: Api) -> None:
    for target in (
        "/v1/topics/%41/tasks/%42",
        "/secret/path",
        "/v1/topics/x/y/z",
        "/topics/a/tasks/" + "x" * 2000,
    ):
        api.get(target)
        api.request("DELETE", target)
    api.request("BREW", "/v1/topics")
    api.request("BREW", "/secret")
    text = scrape(api)
    endpoints = {
        sample.labels["endpoint"] for sample in samples_of(text, "ratus_request_duration_seconds_count")
    }
    assert "/v1/topics/:topic/tasks/:id" in endpoints
    assert not [each for each in endpoints if "secret" in each or "%" in each or "xxx" in each]
    for word in ("secret", "BREW", "xxx"):
        assert word not in text


def test_the_name_of_a_file_is_no_topic(api: Api) -> None:
    api.insert("swagger-ui.css", "1")
    assert api.get("/assets/swagger-ui.css").status == 200
    assert_error(api.get("/assets/nothing"), 404)
    assert_error(api.get("/assets/%ff"), 400)
    requests = values_of(
        scrape(api), "ratus_request_duration_seconds_count", "endpoint", "topic", "status_code"
    )
    assert {key: count for key, count in requests.items() if key[0] == "/assets/:name"} == {
        ("/assets/:name", "", "200"): 1,
        ("/assets/:name", "", "404"): 1,
        ("/assets/:name", "", "400"): 1,
    }


@pytest.mark.parametrize("target", ["/metrics", "/v1/metrics"])
def test_both_addresses(api: Api, target: str) -> None:
    assert "ratus_request_duration_seconds" in scrape(api, target)


def test_requests_for_unknown_topics_add_no_labels(api: Api) -> None:
    for number in range(50):
        topic = f"/v1/topics/unknown{number}"
        for method in ("GET", "PATCH", "DELETE"):
            for target in ("", "/tasks", "/tasks/x", "/promises", "/promises/x"):
                api.request(method, topic + target)
        for target in ("/promises", "/promises/x", "/tasks", "/tasks/x"):
            api.post(topic + target)
            api.put(topic + target)
    assert "unknown" not in scrape(api)


def test_label_values_are_bounded(tmp_path: Path) -> None:
    """Later ones count as other; the places of topics that are gone are given to new ones."""
    with (
        serving(tmp_path, "--metrics-max-label-values", "3", "--chore-interval", "50ms") as server,
        Api(server.port) as api,
    ):
        for number in range(10):
            api.insert(f"t{number}", f"{number}", producer=f"p{number}")
            api.claim(f"t{number}", consumer=f"c{number}")
            api.commit(f"{number}")
        text = scrape(api)
        for name, (_, labels) in LABELS.items():
            for label in labels & {"topic", "producer", "consumer"}:
                suffix = "_count" if name == "ratus_request_duration_seconds" else ""
                values = {sample.labels[label] for sample in samples_of(text, name + suffix)}
                assert len(values - {"", "other"}) <= 3, (name, label)
                if name != "ratus_chore_duration_seconds":
                    assert "other" in values
        produced = values_of(text, "ratus_task_produced_count_total", "topic", "producer")
        assert sum(produced.values()) == 10
        assert produced["t0", "p0"] == 1

        api.delete("/v1/topics/t0")
        api.delete("/v1/topics/t1")
        eventually(lambda: not re.search('topic="t[01]"', scrape(api)), "the end of the labels")
        text = scrape(api)
        assert 'topic="t2"' in text
        assert sum(values_of(text, "ratus_task_produced_count_total", "topic", "producer").values()) == 8
        for number in (20, 21, 22):
            api.insert(f"t{number}", f"{number}", producer=f"p{number}")
        produced = values_of(scrape(api), "ratus_task_produced_count_total", "topic", "producer")
        assert {topic for topic, _ in produced} == {"t2", "t20", "t21", "other"}


def test_labels_of_any_letters_are_escaped(api: Api) -> None:
    topic = 'a"b\\c\nd\0é'
    api.insert(topic, "1", producer=topic)
    assert values_of(scrape(api), "ratus_task_produced_count_total", "topic", "producer") == {
        (topic, topic): 1
    }


def test_chores_are_timed(tmp_path: Path) -> None:
    with serving(tmp_path, "--chore-interval", "20ms") as server, Api(server.port) as api:
        name = "ratus_chore_duration_seconds"
        eventually(lambda: values_of(scrape(api), f"{name}_count")[()] >= 2, "two rounds of chores")
        assert values_of(scrape(api), f"{name}_sum")[()] > 0
