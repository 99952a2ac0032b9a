"""What can be said of the dashboard, its provisioning and the document without a Prometheus."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.deployments.prometheus import dashboard, documented, metrics_in, panels
from tests.deployments.tools import DEPLOYMENTS
from tests.servers import Api, eventually, serving

GRAFANA = DEPLOYMENTS / "grafana"
PROVISIONING = GRAFANA / "provisioning"

# Units that Grafana knows and this dashboard means.
UNITS = {"s", "ops", "reqps", "short", "none", "bytes", "percentunit"}
WIDTH = 24


def provisioned(path: str) -> Any:
    return yaml.safe_load((PROVISIONING / path).read_text())


# --- the dashboard ------------------------------------------------------------------------------------------


def test_the_dashboard_asks_the_data_source_that_is_provisioned() -> None:
    [source] = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["type"] == "prometheus"
    expected = {"type": "prometheus", "uid": source["uid"]}
    asked = [panel["datasource"] for panel in panels()]
    asked += [target["datasource"] for panel in panels() for target in panel["targets"]]
    asked += [variable["datasource"] for variable in dashboard()["templating"]["list"]]
    assert len(asked) > 50
    assert all(each == expected for each in asked)


def test_compose_mounts_what_grafana_and_prometheus_look_for() -> None:
    """Paths inside of the containers, as the files here name them."""
    services = yaml.safe_load((DEPLOYMENTS / "compose" / "monitoring.yaml").read_text())["services"]
    mounts = {
        name: dict(volume.removesuffix(":ro").split(":") for volume in services[name]["volumes"])
        for name in ("prometheus", "grafana")
    }
    [provider] = provisioned("dashboards/ratus.yml")["providers"]
    assert mounts["grafana"]["../grafana/provisioning"] == "/etc/grafana/provisioning"
    assert mounts["grafana"]["../grafana/dashboards"] == provider["options"]["path"]
    config = mounts["prometheus"]["../prometheus/prometheus.yml"]
    rules = mounts["prometheus"]["../prometheus/rules"]
    [pattern] = yaml.safe_load((DEPLOYMENTS / "prometheus" / "prometheus.yml").read_text())["rule_files"]
    assert str(Path(config).parent / pattern) == f"{rules}/ratus.yml"
    [source] = provisioned("datasources/prometheus.yml")["datasources"]
    assert source["url"] == "http://prometheus:9090"


def test_panels_have_what_a_reader_needs() -> None:
    ids = [panel["id"] for panel in dashboard()["panels"]]
    assert len(ids) == len(set(ids))
    titles = [panel["title"] for panel in panels()]
    assert len(titles) == len(set(titles))
    for panel in dashboard()["panels"]:
        assert panel["title"], panel["id"]
    for panel in panels():
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"] in UNITS, panel["title"]
        assert panel["targets"], panel["title"]
        references = [target["refId"] for target in panel["targets"]]
        assert len(references) == len(set(references)), panel["title"]


def test_series_of_a_graph_have_names() -> None:
    for panel in panels():
        if panel["type"] != "stat":
            assert all(target["legendFormat"] for target in panel["targets"]), panel["title"]


def test_panels_fill_the_width_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        taken |= cells
    height = max(y for _, y in taken) + 1
    assert len(taken) == WIDTH * height


def test_the_four_questions_are_rows() -> None:
    rows = [panel["title"] for panel in dashboard()["panels"] if panel["type"] == "row"]
    questions = ["Is it keeping up?", "What waits longest?", "What fails?", "Who is slow?"]
    assert [row for row in rows if row.endswith("?")] == questions


def test_every_query_heeds_the_variables() -> None:
    names = {variable["name"] for variable in dashboard()["templating"]["list"]}
    assert names == {"job", "instance", "topic"}
    for panel in panels():
        for target in panel["targets"]:
            for name, selector in re.findall(r"\b((?:ratus|process)_[a-z_]+)(\{[^}]*\})?", target["expr"]):
                if name == "ratus_topic_paused":
                    continue  # joined to a metric that heeds them
                assert 'job=~"$job"' in selector, (panel["title"], name)
                assert 'instance=~"$instance"' in selector, (panel["title"], name)


# --- the document -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[str, set[str]]]]:
    """Type and labels of every metric of our own that a server tells, which had something to tell of each."""
    folder = tmp_path_factory.mktemp("server")
    flags = ("--memdb-snapshot-path", str(folder / "queue"), "--chore-interval", "50ms")
    with serving(folder, *flags) as server, Api(server.port) as api:
        api.insert("t", "1")
        api.commit("1", nonce=api.claim("t")["nonce"], error="boom")
        limits = {"rate": {"count": 1, "period": "1h"}, "per": {"label": "customer"}}
        assert api.patch("/topics/limited", {"limits": limits}).status == 200
        api.insert("limited", "2")
        api.insert("limited", "3")
        assert [api.post("/topics/limited/promises", {}).status for _ in range(2)] == [200, 404]

        def read() -> dict[str, tuple[str, set[str]]]:
            found = {}
            for family in text_string_to_metric_families(api.get("/metrics").body.decode()):
                name = family.name + ("_total" if family.type == "counter" else "")
                labels = {label for sample in family.samples for label in sample.labels} - {"le"}
                if name.startswith("ratus_") and family.samples:
                    found[name] = (family.type, labels)
            return found

        eventually(lambda: "ratus_chore_last_success_timestamp_seconds" in read(), "a round of chores")
        eventually(lambda: "ratus_topic_closed_seconds_total" in read(), "a second look at the topics")
        yield read()


def test_the_document_lists_every_metric_and_no_other(exposed: dict[str, tuple[str, set[str]]]) -> None:
    assert {name: (kind, labels) for name, (kind, labels, _) in documented().items()} == exposed


def test_an_example_is_about_its_metric() -> None:
    for name, (_, _, example) in documented().items():
        assert any(each.startswith(name) for each in metrics_in(example)), name
