"""Prometheus scrapes a live server, and what is deployed to watch it works on what it finds there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
import yaml

from tests.deployments.prometheus import (
    CONFIG,
    DOCUMENT,
    RULES,
    Prometheus,
    alerts,
    dashboard,
    documented,
    metrics_in,
    panels,
    scraping,
    substituted,
)
from tests.deployments.tools import need
from tests.servers import Api, Client, Server, assert_error, eventually, free_port, request_bytes, serving

# Seconds of a shell command that takes a second at the most.
PATIENCE = 60


# --- a server and a Prometheus ------------------------------------------------------------------------------


def work(api: Api, name: str) -> None:
    """Everything that there is something to be told of, with tasks of this name."""
    for number in range(20):
        api.insert("mail", f"{name}-{number}", producer="shop", payload={"to": number})
    for number in range(20):
        claimed = api.claim("mail", consumer=f"worker-{number % 3}")
        outcome = {"error": "no such mailbox"} if number % 5 == 0 else {}
        api.commit(claimed["_id"], nonce=claimed["nonce"], **outcome)
    api.insert("mail", f"{name}-dead", priority=9, retry={"max_attempts": 1})
    api.commit(f"{name}-dead", nonce=api.claim("mail")["nonce"], error="no such mailbox")
    api.insert("slow", f"{name}-lapses", priority=9, retry={"delay": "1h"})
    api.claim("slow", timeout="1ms", consumer="worker-9")
    api.insert("slow", f"{name}-expires", defer="1h", ttl="1ms")
    api.insert("slow", f"{name}-waits", scheduled="2001-01-01T00:00:00Z")
    api.insert("paused", name)
    api.insert("paused", f"{name}-refused")
    limits = {"concurrency": 1, "per": {"label": "customer", "concurrency": 1}}
    api.patch("/v1/topics/paused", {"paused": False, "limits": limits})
    api.post("/v1/topics/paused/promises")
    assert_error(api.post("/v1/topics/paused/promises"), 404)
    api.patch("/v1/topics/paused", {"paused": True})
    assert_error(api.post("/v1/topics/none/promises"), 404)
    api.get("/v1/topics")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that has something to tell in every respect, with a request that waits."""
    need("prometheus")
    folder = tmp_path_factory.mktemp("server")
    flags = ("--memdb-snapshot-path", str(folder / "queue"), "--memdb-snapshot-interval", "0s")
    with serving(folder, "--chore-interval", "50ms", *flags) as running, Api(running.port) as api:
        work(api, "before")
        waiting = Client(running.port)
        waiting.send(request_bytes("POST", "/v1/topics/nothing/promises?wait=60s"))
        yield running
        waiting.sock.close()


@pytest.fixture(scope="module")
def prometheus(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has seen the server at work, and so can tell rates."""
    folder = tmp_path_factory.mktemp("prometheus")
    # Nobody listens on the second port: a server that is down.
    with scraping(folder, server.port, free_port()) as made, Api(server.port) as api:
        eventually(lambda: made.query('ratus_topic_lapses_total{topic="slow"} == 1'), "what was before")
        work(api, "after")
        for expression in (
            'ratus_topic_lapses_total{topic="slow"} == 2',
            'ratus_topic_dead_letters_total{topic="slow",outcome="expired"} == 2',
            'ratus_waiting_requests{wants="task"} == 1',
            "ratus_snapshot_unsaved_changes == 0",
        ):
            eventually(partial(made.query, expression), expression)
        yield made


def test_the_server_is_scraped_without_a_complaint(server: Server, prometheus: Prometheus) -> None:
    def scraped() -> list[dict[str, Any]]:
        targets = prometheus.get("/api/v1/targets")["activeTargets"]
        return [target for target in targets if target["health"] == "up"]

    eventually(scraped, "a scrape that is in time")
    [target] = scraped()
    assert target["labels"] == {"instance": f"127.0.0.1:{server.port}", "job": "ratus"}
    # Prometheus warns of what it reads and does not like: series that are there twice, say.
    assert prometheus.log.read_text() == ""


def test_the_numbers_are_those_of_the_server(prometheus: Prometheus) -> None:
    for expression in (
        "ratus_ready == 1",
        'ratus_task_produced_count_total{topic="mail",producer="shop"} == 40',
        'sum(ratus_task_consumed_count_total{topic="mail"}) == 42',
        'ratus_topic_failures_total{topic="mail"} == 10',
        'ratus_topic_retries_total{topic="mail"} == 8',
        'ratus_topic_retries_total{topic="slow"} == 2',
        'ratus_topic_dead_letters_total{topic="mail",outcome="failed"} == 2',
        'ratus_topic_oldest_due_age_seconds{topic="slow"} > 20 * 365 * 86400',
        'ratus_topic_due_tasks{topic="slow"} == 2',
        'ratus_topic_paused{topic="paused"} == 1',
    ):
        # A scrape that was not in time makes all series vanish for a moment.
        eventually(partial(prometheus.query, expression), expression)


# --- what is deployed ---------------------------------------------------------------------------------------

QUERIES: dict[str, str] = {
    **{
        f"dashboard: {p['title']} {t['refId']}": substituted(t["expr"])
        for p in panels()
        for t in p["targets"]
    },
    **{f"document: {name}": example for name, (_, _, example) in documented().items()},
}


def test_every_query_has_data(prometheus: Prometheus) -> None:
    def has_data(name: str) -> bool:
        return any(series["value"][1] != "NaN" for series in prometheus.query(QUERIES[name]))

    assert len(QUERIES) > 60
    for name in QUERIES:
        eventually(partial(has_data, name), f"data for {name}: {QUERIES[name]}")


def test_legends_name_labels_that_the_series_have(prometheus: Prometheus) -> None:
    for panel in panels():
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                query = f"count by ({label}) ({substituted(target['expr'])}) > 0"
                named = partial(has_label, prometheus, query, label)
                eventually(named, f"the label {label} in {panel['title']}")


def has_label(prometheus: Prometheus, query: str, label: str) -> bool:
    return any(each["metric"].get(label) for each in prometheus.query(query))


def test_variables_of_the_dashboard_have_values(server: Server, prometheus: Prometheus) -> None:
    values = {}
    for variable in dashboard()["templating"]["list"]:
        match = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
        assert match is not None
        expression = substituted(match[1])
        eventually(partial(prometheus.query, expression), expression)
        values[variable["name"]] = {each["metric"][match[2]] for each in prometheus.query(expression)}
    assert values == {
        "job": {"ratus"},
        "instance": {f"127.0.0.1:{server.port}"},
        "topic": {"mail", "slow", "paused"},
    }


def test_alerts_rest_on_metrics_that_there_are(prometheus: Prometheus) -> None:
    for rule in alerts():
        prometheus.query(rule["expr"])
        names = metrics_in(rule["expr"])
        assert names, rule["alert"]
        for name in names:
            eventually(partial(prometheus.query, name), f"{name}, for {rule['alert']}")


def test_the_alerts_are_evaluated_and_find_what_is_wrong(server: Server, prometheus: Prometheus) -> None:
    expected = {rule["alert"] for rule in alerts()}
    eventually(lambda: all(rule["health"] == "ok" for rule in prometheus.rules().values()), "every rule")
    rules = prometheus.rules()
    assert set(rules) == expected
    assert not any(rule.get("lastError") for rule in rules.values())

    def state(name: str) -> str:
        return str(prometheus.rules()[name]["state"])

    eventually(lambda: state("RatusDeadLetters") == "firing", "the alert of the dead letters")
    topics = {alert["labels"]["topic"] for alert in prometheus.rules()["RatusDeadLetters"]["alerts"]}
    assert topics == {"mail", "slow"}
    # Whether it has been down for long enough to fire depends on how long the tests have taken.
    down = prometheus.rules()["RatusDown"]["alerts"]
    assert {alert["state"] for alert in down} <= {"pending", "firing"}
    assert {alert["labels"]["instance"] for alert in down} - {f"127.0.0.1:{server.port}"}
    for name in ("RatusAbsent", "RatusNotReady", "RatusErrors", "RatusSnapshotFailing"):
        assert state(name) == "inactive", name


# --- promtool -----------------------------------------------------------------------------------------------


def promtool(*arguments: str) -> str:
    """What promtool says; fails when it is not content."""
    done = subprocess.run(
        [need("promtool"), *arguments], capture_output=True, text=True, timeout=PATIENCE, cwd=CONFIG.parent
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_and_the_rules_are_valid() -> None:
    assert "SUCCESS" in promtool("check", "config", CONFIG.name)
    assert f"{len(alerts())} rules found" in promtool("check", "rules", str(RULES))


def test_the_alerts_pass_their_tests() -> None:
    assert "SUCCESS" in promtool("test", "rules", "ratus_test.yml")


def test_every_alert_is_tested_firing_and_not() -> None:
    tests = yaml.safe_load((CONFIG.parent / "ratus_test.yml").read_text())["tests"]
    cases = [case for test in tests for case in test["alert_rule_test"]]
    for rule in alerts():
        name = rule["alert"]
        tried = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
        assert tried == {False, True}, name


def test_every_alert_says_what_it_means_and_what_to_do() -> None:
    headings = re.findall(r"^### (\w+)$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    for rule in alerts():
        assert rule["labels"]["severity"] in ("critical", "warning"), rule["alert"]
        annotations = rule["annotations"]
        assert set(annotations) == {"summary", "description", "runbook"}, rule["alert"]
        assert annotations["runbook"] == f"docs/monitoring.md#{rule['alert'].lower()}"
    assert [heading for heading in headings if heading.startswith("Ratus")] == [r["alert"] for r in alerts()]
