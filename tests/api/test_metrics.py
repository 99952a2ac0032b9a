"""What is counted, under which names and labels, seen from outside."""

from __future__ import annotations

import platform
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from ratus import __version__
from tests.metrics.scraping import samples_of, values_of
from tests.servers import Api, Client, assert_error, eventually, request_bytes, serving

# What dashboards made for Ratus rely on.
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


# What Ratus does not count.


def test_what_goes_wrong_is_counted_by_topic(tmp_path: Path) -> None:
    with serving(tmp_path, "--chore-interval", "20ms") as server, Api(server.port) as api:
        once = {"retry": {"max_attempts": 1}}
        api.insert("t", "fails", retry={"delay": "1h"})
        api.insert("t", "dies", **once)
        for _ in range(2):
            claimed = api.claim("t")
            api.commit(claimed["_id"], nonce=claimed["nonce"], error="boom")
        api.insert("u", "lapses")
        api.claim("u", timeout="1ms")
        again = api.post("/v1/topics/u/promises?wait=20s", {"timeout": "1h"})
        assert again.json["attempts"] == 2
        api.insert("u", "dies too", **once)
        api.claim("u", timeout="1ms")
        api.insert("v", "expires", defer="1h", ttl="1ms")

        def dead_letters() -> dict[tuple[str, ...], float]:
            return values_of(scrape(api), "ratus_topic_dead_letters_total", "topic", "outcome")

        eventually(lambda: sum(dead_letters().values()) == 3, "three dead letters")
        assert dead_letters() == {
            ("t", "failed"): 1,
            ("t", "expired"): 0,
            ("u", "failed"): 1,
            ("u", "expired"): 0,
            ("v", "failed"): 0,
            ("v", "expired"): 1,
        }
        text = scrape(api)
        assert values_of(text, "ratus_topic_failures_total", "topic") == {("t",): 2, ("u",): 0, ("v",): 0}
        assert values_of(text, "ratus_topic_retries_total", "topic") == {("t",): 1, ("u",): 1, ("v",): 0}
        assert values_of(text, "ratus_topic_lapses_total", "topic") == {("t",): 0, ("u",): 2, ("v",): 0}


def test_the_tasks_of_a_topic_by_state_and_how_long_they_wait(api: Api) -> None:
    api.insert("t", "old", scheduled="2001-01-01T00:00:00Z")
    api.insert("t", "later", defer="1h")
    api.insert("t", "done")
    api.commit("done")
    api.insert("u", "1")
    api.claim("u")
    api.patch("/v1/topics/u", {"paused": True})
    text = scrape(api)
    tasks = values_of(text, "ratus_topic_tasks", "topic", "state")
    assert {key: count for key, count in tasks.items() if count} == {
        ("t", "pending"): 2,
        ("t", "completed"): 1,
        ("u", "active"): 1,
    }
    assert len(tasks) == 8
    assert values_of(text, "ratus_topic_due_tasks", "topic") == {("t",): 1, ("u",): 0}
    ages = values_of(text, "ratus_topic_oldest_due_age_seconds", "topic")
    assert ages["t",] > 20 * 365 * 86_400
    assert ages["u",] == 0
    assert values_of(text, "ratus_topic_paused", "topic") == {("t",): 0, ("u",): 1}
    assert 0 <= values_of(text, "ratus_topic_figures_age_seconds")[()] < 60


def test_delays_and_executions_by_topic(api: Api) -> None:
    for number in range(3):
        api.insert("t", str(number), producer=f"p{number}", scheduled="2001-01-01T00:00:00Z")
        claimed = api.claim("t", consumer=f"c{number}")
        api.commit(claimed["_id"])
    text = scrape(api)
    delay, execution = "ratus_topic_schedule_delay_seconds", "ratus_topic_execution_duration_seconds"
    assert values_of(text, f"{delay}_count", "topic") == {("t",): 3}
    assert values_of(text, f"{delay}_bucket", "topic", "le")["t", "14400"] == 0
    assert values_of(text, f"{execution}_count", "topic") == {("t",): 3}
    assert values_of(text, f"{execution}_bucket", "topic", "le")["t", "10"] == 3


def test_who_waits_and_who_is_connected(api: Api) -> None:
    def waiting() -> dict[tuple[str, ...], float]:
        return values_of(scrape(api), "ratus_waiting_requests", "wants")

    def connections() -> float:
        return values_of(scrape(api), "ratus_connections")[()]

    api.insert("t", "1", defer="1h")
    assert waiting() == {("task",): 0, ("result",): 0, ("value",): 0}
    assert connections() == 1
    clients = [Client(api.port) for _ in range(4)]
    clients[0].send(request_bytes("POST", "/v1/topics/t/promises?wait=50s"))
    clients[1].send(request_bytes("POST", "/promises?wait=50s", b'{"topics": ["t", "u", "v"]}'))
    clients[2].send(request_bytes("GET", "/v1/topics/t/tasks/1?wait=50s"))
    clients[3].send(request_bytes("GET", "/v1/values/a?since=0&wait=50s"))
    eventually(lambda: waiting() == {("task",): 2, ("result",): 1, ("value",): 1}, "those who wait")
    assert connections() == 5
    for client in clients:
        client.sock.close()
    eventually(lambda: waiting() == {("task",): 0, ("result",): 0, ("value",): 0}, "those who left")
    eventually(lambda: connections() == 1, "closed connections")


def test_the_engine_is_measured_by_operation(api: Api) -> None:
    api.insert("t", "1")
    assert_error(api.post("/v1/topics/t/tasks/1", {}), 409)
    api.commit(api.claim("t")["_id"])
    assert_error(api.post("/v1/topics/t/promises/none", {}), 404)
    text = scrape(api)
    counts = values_of(text, "ratus_engine_duration_seconds_count", "operation")
    assert {name: counts[name,] for name in ("insert", "claim", "commit", "claim_task")} == {
        "insert": 2,
        "claim": 1,
        "commit": 1,
        "claim_task": 1,
    }
    errors = values_of(text, "ratus_engine_errors_total", "operation")
    assert len(errors) > 20
    assert not any(errors.values())


def test_what_runs_and_whether_it_is_ready(api: Api) -> None:
    text = scrape(api)
    build = ("memdb", platform.python_version(), __version__)
    assert values_of(text, "ratus_build_info", "engine", "python", "version") == {build: 1}
    assert values_of(text, "ratus_ready") == {(): 1}
    assert "ratus_snapshot" not in text, "this server keeps none"


def test_snapshots_and_chores(tmp_path: Path) -> None:
    flags = ("--memdb-snapshot-path", str(tmp_path / "queue"), "--memdb-snapshot-interval", "0s")
    with serving(tmp_path, "--chore-interval", "20ms", *flags) as server, Api(server.port) as api:
        api.insert("t", "1", payload="x" * 1000)
        eventually(lambda: values_of(scrape(api), "ratus_snapshot_bytes")[()] > 1000, "a snapshot")
        eventually(lambda: values_of(scrape(api), "ratus_snapshot_unsaved_changes") == {(): 0}, "the last")
        text = scrape(api)
        assert 0 <= values_of(text, "ratus_snapshot_age_seconds")[()] < 30
        assert values_of(text, "ratus_snapshot_duration_seconds")[()] > 0
        assert values_of(text, "ratus_snapshot_failures_total") == {(): 0}
        done = values_of(text, "ratus_chore_last_success_timestamp_seconds", "chore")
        chores = {"recover", "expire", "purge", "maintain", "values", "metrics", "memory"}
        assert {name for (name,) in done} == chores
        failures = values_of(text, "ratus_chore_failures_total", "chore")
        assert {name for (name,) in failures} == {name for (name,) in done}
        assert not any(failures.values())


def test_every_metric_is_in_order_and_named_once(api: Api) -> None:
    """As Prometheus wants it: all series of a metric together, under one name and type."""
    api.insert("t", "1")
    api.commit(api.claim("t")["_id"], error="boom")
    lines = scrape(api).splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE ")]
    assert len(names) == len(set(names))
    current = ""
    for line in lines:
        if line.startswith("# HELP "):
            current = line.split()[2]
        elif not line.startswith("#"):
            name = re.split(r"[ {]", line)[0]
            assert name == current or re.fullmatch(rf"{current}_(bucket|count|sum|created)", name), line


def test_requests_that_cannot_be_read_are_counted_and_logged(tmp_path: Path) -> None:
    with serving(tmp_path, "--access-log") as server:
        for sent in (b"NONSENSE\r\n\r\n", b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n"):
            with Client(server.port) as client:
                client.send(sent)
                assert client.answer().status in (400, 431)
        with Api(server.port) as api:
            name = "ratus_request_duration_seconds_count"
            counted = values_of(scrape(api), name, "topic", "method", "endpoint", "status_code")
        assert counted["", "other", "other", "400"] == counted["", "other", "other", "431"] == 1
        server.wait_for_log("unreadable request 400")
        server.wait_for_log("unreadable request 431")
