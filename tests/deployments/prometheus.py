"""A Prometheus of the test's own, and the queries that documents, rules and the dashboard hold."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.deployments.tools import DEPLOYMENTS, ROOT, need
from tests.servers import eventually, free_port

CONFIG = DEPLOYMENTS / "prometheus" / "prometheus.yml"
RULES = DEPLOYMENTS / "prometheus" / "rules" / "ratus.yml"
DASHBOARD = DEPLOYMENTS / "grafana" / "dashboards" / "ratus.json"
DOCUMENT = ROOT / "docs" / "monitoring.md"

# Prometheus scrapes and thinks as often, so that a test need not wait long; a scrape may take no longer.
INTERVAL = "500ms"

# What Grafana puts in the place of its variables.
VARIABLES = {
    "$job": ".*",
    "$instance": ".*",
    "$topic": ".*",
    "$__rate_interval": "30s",
    "$__range": "5m",
}


class Prometheus:
    """One process that scrapes, and answers queries."""

    def __init__(self, port: int, log: Path) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.log = log

    def get(self, path: str, **query: str) -> Any:
        """The data of an answer; fails with Prometheus's own words where it has an error."""
        url = f"{self.url}{path}?{urllib.parse.urlencode(query)}"
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{query or path}: {error.read().decode()}") from None

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What an expression gives at this moment: series with their labels and values."""
        found = self.get("/api/v1/query", query=expression)
        assert found["resultType"] == "vector", expression
        series: list[dict[str, Any]] = found["result"]
        return series

    def is_ready(self) -> bool:
        with (
            contextlib.suppress(OSError),
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=30) as answer,
        ):
            return bool(answer.status == 200)
        return False

    def rules(self) -> dict[str, dict[str, Any]]:
        """The alerts and how they stand, by name."""
        groups = self.get("/api/v1/rules")["groups"]
        return {rule["name"]: rule for group in groups for rule in group["rules"]}


@contextlib.contextmanager
def scraping(directory: Path, *ports: int) -> Iterator[Prometheus]:
    """A Prometheus with the configuration and the rules that are deployed, on these servers instead."""
    program = need("prometheus")
    config = yaml.safe_load(CONFIG.read_text())
    config["global"] = {
        "scrape_interval": INTERVAL,
        "scrape_timeout": INTERVAL,
        "evaluation_interval": INTERVAL,
    }
    config["rule_files"] = [str(CONFIG.parent / path) for path in config["rule_files"]]
    [job] = config["scrape_configs"]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{port}" for port in ports]}]
    path = directory / "prometheus.yml"
    path.write_text(yaml.safe_dump(config))
    port = free_port()
    log = directory / "prometheus.log"
    command = [
        program,
        f"--config.file={path}",
        f"--storage.tsdb.path={directory / 'prometheus'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, cwd=directory)
    made = Prometheus(port, log)
    try:
        eventually(lambda: process.poll() is not None or made.is_ready(), "Prometheus")
        assert process.poll() is None, log.read_text()
        yield made
    finally:
        process.terminate()
        process.wait(timeout=30)


def alerts() -> list[dict[str, Any]]:
    """The alert rules that are deployed."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def dashboard() -> dict[str, Any]:
    """The dashboard that is deployed."""
    found: dict[str, Any] = json.loads(DASHBOARD.read_text())
    return found


def panels() -> list[dict[str, Any]]:
    """The panels of the dashboard, without the rows that hold them together."""
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def substituted(expression: str) -> str:
    """An expression of the dashboard as Grafana sends it."""
    for name, value in VARIABLES.items():
        expression = expression.replace(name, value)
    assert "$" not in expression, f"an unknown variable: {expression}"
    return expression


def documented() -> dict[str, tuple[str, set[str], str]]:
    """Type, labels and example of each metric that the document lists."""
    found = {}
    for line in DOCUMENT.read_text(encoding="utf-8").splitlines():
        if line.startswith("| `ratus_"):
            name, kind, labels, meaning, example = (cell.strip() for cell in line.strip("|").split("|"))
            assert meaning, name
            found[name.strip("`")] = (kind, set(filter(None, labels.split(", "))), example.strip("`"))
    return found


def metrics_in(expression: str) -> set[str]:
    """The names of metrics in an expression."""
    return set(re.findall(r"\b(?:ratus|process)_[a-z_]+|\bup\b", expression))
