"""The manifests: rendered by kustomize, valid for Kubernetes, and true of the server.

They are rendered by `kubectl kustomize`, and held against the schemas that Kubernetes publishes, strictly: a
name that does not exist is an error.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate  # type: ignore[import-untyped]  # it has no types
import pytest
import yaml
from cloudcoil.models.prometheus_operator.v1 import PrometheusRule, ServiceMonitor

from ratus import __version__
from ratus.runtime import config
from ratus.server.connection_limits import ConnectionLimits
from tests.deployments.settings import VARIABLES, seconds
from tests.deployments.tools import DEPLOYMENTS, ROOT, need
from tests.documents.pages import blocks

FOLDER = DEPLOYMENTS / "kubernetes"
OVERLAYS = sorted(path.name for path in (FOLDER / "overlays").iterdir())
COMPONENTS = ("monitoring", "tokens", "network-policy")
# The first that knows all that is used (`unhealthyPodEvictionPolicy`), and the newest with known schemas.
RELEASES = ("1.27", kubernetes_validate.latest_version())
# Secrets are made by hand; these are the ones that the pages tell of.
SECRETS = {"ratus-mongodb": {"uri"}, "ratus-tokens": {"tokens", "metrics"}}
OF_THE_OPERATOR: dict[str, Any] = {"PrometheusRule": PrometheusRule, "ServiceMonitor": ServiceMonitor}
DOCKERFILE = (DEPLOYMENTS / "docker/Dockerfile").read_text(encoding="utf-8")


def render(folder: Path) -> list[dict[str, Any]]:
    """What a kustomization makes, without a warning."""
    command = [need("kubectl"), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(
    params=[(name, extra) for name in OVERLAYS for extra in ("", "everything")], ids="-".join, scope="module"
)
def manifests(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, Any]]:
    """Each overlay in turn, by itself and with all components."""
    name, extra = request.param
    overlay = FOLDER / "overlays" / name
    if not extra:
        return render(overlay)
    folder = tmp_path_factory.mktemp("mine")
    mine = {
        "resources": [os.path.relpath(overlay, folder)],
        "components": [os.path.relpath(FOLDER / "components" / each, folder) for each in COMPONENTS],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(mine))
    return render(folder)


def test_the_kustomization_of_the_page(tmp_path: Path) -> None:
    """docs/deployment.md shows one that takes ours from a clone beside it."""
    [shown] = [block.text for block in blocks("docs/deployment.md") if block.language == "yaml"]
    (tmp_path / "ratus").symlink_to(ROOT)
    (tmp_path / "kustomization.yaml").write_text(shown)
    manifests = render(tmp_path)
    assert {each["metadata"].get("namespace") for each in manifests} == {"ratus"}
    [server] = workloads(manifests)
    assert container(server)["image"] == f"registry.example.com/ratus:{__version__}"
    assert {each["kind"] for each in of_kind(manifests, *OF_THE_OPERATOR)} == set(OF_THE_OPERATOR)


def of_kind(manifests: list[dict[str, Any]], *kinds: str) -> list[dict[str, Any]]:
    return [each for each in manifests if each["kind"] in kinds]


def workloads(manifests: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return of_kind(manifests, "Deployment", "StatefulSet")


def container(workload: dict[str, Any]) -> dict[str, Any]:
    """The one container of a workload."""
    [found] = workload["spec"]["template"]["spec"]["containers"]
    assert isinstance(found, dict)
    return found


def is_server(workload: dict[str, Any]) -> bool:
    return bool(workload["metadata"]["labels"]["app.kubernetes.io/component"] == "server")


def environment(workload: dict[str, Any], manifests: list[dict[str, Any]]) -> dict[str, str]:
    """The variables of a container: those of its ConfigMap, then its own, which win. Secrets are made up."""
    maps = {each["metadata"]["name"]: each["data"] for each in of_kind(manifests, "ConfigMap")}
    found: dict[str, str] = {}
    for source in container(workload)["envFrom"]:
        found |= maps[source["configMapRef"]["name"]]
    for each in container(workload).get("env", ()):
        found[each["name"]] = each.get("value", "mongodb://host/?replicaSet=x")
    return found


def walk(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a manifest."""
    if isinstance(value, dict):
        yield value
        for each in value.values():
            yield from walk(each)
    elif isinstance(value, list):
        for each in value:
            yield from walk(each)


def test_the_overlays_are_those_of_the_engines() -> None:
    assert OVERLAYS == ["memdb", "mongodb", "mongodb-chores", "sqlite"]
    assert {path.name for path in (FOLDER / "components").iterdir()} == {*COMPONENTS, "pod"}


@pytest.mark.parametrize("release", RELEASES)
def test_they_are_valid(manifests: list[dict[str, Any]], release: str) -> None:
    for each in manifests:
        if not each["apiVersion"].startswith("monitoring.coreos.com/"):
            kubernetes_validate.validate(each, release, strict=True)


def test_a_name_that_does_not_exist_is_noticed() -> None:
    [first, *_] = workloads(render(FOLDER / "overlays" / "sqlite"))
    container(first)["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="livenesProbe"):
        kubernetes_validate.validate(first, RELEASES[-1], strict=True)


def test_what_is_for_the_operator_is_valid(manifests: list[dict[str, Any]]) -> None:
    for each in of_kind(manifests, *OF_THE_OPERATOR):
        read = OF_THE_OPERATOR[each["kind"]].model_validate(each)
        # What the model does not know, it drops.
        assert read.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True) == each


def test_the_alerts_are_those_that_prometheus_was_asked_to_test(manifests: list[dict[str, Any]]) -> None:
    groups = yaml.safe_load((DEPLOYMENTS / "prometheus/rules/ratus.yml").read_text(encoding="utf-8"))
    for each in of_kind(manifests, "PrometheusRule"):
        assert each["spec"] == groups


def test_prometheus_has_a_token_where_one_is_needed(manifests: list[dict[str, Any]]) -> None:
    for each in of_kind(manifests, "ServiceMonitor"):
        with_token = any("tokens" in str(workload) for workload in workloads(manifests))
        [endpoint] = each["spec"]["endpoints"]
        assert ("authorization" in endpoint) == with_token


def test_pods_keep_the_restricted_standard(manifests: list[dict[str, Any]]) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and a little more."""
    for workload in workloads(manifests):
        pod = workload["spec"]["template"]["spec"]
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert {kind for volume in pod.get("volumes", ()) for kind in volume} <= {"name", "secret"}
        assert container(workload)["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert set(container(workload)["resources"]) == {"requests", "limits"}


def test_they_fit_the_image(manifests: list[dict[str, Any]]) -> None:
    user, group = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    port = re.findall(r"^ +PORT=(\d+) ", DOCKERFILE, re.MULTILINE)
    for workload in workloads(manifests):
        context = workload["spec"]["template"]["spec"]["securityContext"]
        assert [str(context[name]) for name in ("runAsUser", "runAsGroup", "fsGroup")] == [user, group, group]
        assert container(workload)["image"] == f"ratus:{__version__}"
        ports = {each["name"]: str(each["containerPort"]) for each in container(workload).get("ports", ())}
        assert ports == ({"http": port[0]} if is_server(workload) else {})
        assert "command" not in container(workload)
        assert "args" not in container(workload)


def test_the_server_takes_the_settings(manifests: list[dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("token")
    for workload in workloads(manifests):
        variables = environment(workload, manifests)
        assert set(variables) <= VARIABLES
        if "AUTH_TOKENS_FILE" in variables:
            folder, _, name = variables["AUTH_TOKENS_FILE"].rpartition("/")
            [mount] = [each for each in container(workload)["volumeMounts"] if each["mountPath"] == folder]
            [volume] = workload["spec"]["template"]["spec"]["volumes"]
            assert mount["name"] == volume["name"]
            assert [item["path"] for item in volume["secret"]["items"]] == [name]
            variables["AUTH_TOKENS_FILE"] = str(tmp_path / "tokens")
        settings = config.parse([], variables)
        assert (settings.port == 0) == (not is_server(workload))


def test_somebody_does_the_chores(manifests: list[dict[str, Any]]) -> None:
    intervals = {
        each["metadata"]["name"]: seconds(environment(each, manifests).get("CHORE_INTERVAL", "10s"))
        for each in workloads(manifests)
    }
    if "ratus-chores" in intervals:
        assert intervals.pop("ratus-chores") > 0
        assert set(intervals.values()) == {0}
    else:
        assert min(intervals.values()) > 0


def test_probes_ask_what_they_should(manifests: list[dict[str, Any]]) -> None:
    for workload in workloads(manifests):
        probes = {name: probe for name, probe in container(workload).items() if name.endswith("Probe")}
        paths = {name: probe["httpGet"] for name, probe in probes.items()}
        if not is_server(workload):
            assert paths == {}
            continue
        live, ready = {"path": "/livez", "port": "http"}, {"path": "/readyz", "port": "http"}
        assert paths == {"startupProbe": live, "livenessProbe": live, "readinessProbe": ready}
        # Thirty million tasks at 10 s a million.
        assert probes["startupProbe"]["periodSeconds"] * probes["startupProbe"]["failureThreshold"] >= 300


def taken_before_the_stop(workload: dict[str, Any]) -> float:
    """Seconds of the grace period that preStop takes."""
    if "lifecycle" not in container(workload):
        return 0.0
    _, pause = container(workload)["lifecycle"]["preStop"]["exec"]["command"]
    return float(pause)


def test_there_is_time_to_stop(manifests: list[dict[str, Any]]) -> None:
    """The grace period begins with preStop; then come the delay, the requests in flight, and a snapshot."""
    for workload in workloads(manifests):
        grace = workload["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        variables = environment(workload, manifests)
        taken = seconds(variables.get("SHUTDOWN_DELAY", "0s"))
        taken += taken_before_the_stop(workload)
        if is_server(workload):
            taken += ConnectionLimits().body_seconds
        # A snapshot of ten million tasks, at 2 s a million.
        taken += 20 if variables["ENGINE"] == "memdb" else 0
        assert grace >= taken + 15
        # The log says what hangs before the process is killed.
        delay, timeout = variables.get("SHUTDOWN_DELAY", "0s"), variables.get("SHUTDOWN_TIMEOUT", "60s")
        assert grace > taken_before_the_stop(workload) + seconds(delay) + seconds(timeout)
        if is_server(workload):
            assert f"grace period is {grace} s" in (ROOT / "docs/deployment.md").read_text(encoding="utf-8")


def test_one_server_where_there_is_one_volume(manifests: list[dict[str, Any]]) -> None:
    for workload in of_kind(manifests, "StatefulSet"):
        assert workload["spec"]["replicas"] == 1
        [service] = of_kind(manifests, "Service")
        assert workload["spec"]["serviceName"] == service["metadata"]["name"]
        [claim] = workload["spec"]["volumeClaimTemplates"]
        mounts = {each["name"]: each["mountPath"] for each in container(workload)["volumeMounts"]}
        assert mounts[claim["metadata"]["name"]] == "/data"


def test_disruptions_are_possible_and_bounded(manifests: list[dict[str, Any]]) -> None:
    [budget] = of_kind(manifests, "PodDisruptionBudget")
    assert budget["spec"]["maxUnavailable"] == 1
    [server] = filter(is_server, workloads(manifests))
    if server["kind"] == "Deployment":
        assert server["spec"]["replicas"] > 1
        assert server["spec"]["template"]["spec"]["topologySpreadConstraints"]


def test_what_selects_pods_selects_these(manifests: list[dict[str, Any]]) -> None:
    pods = {
        each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"]
        for each in workloads(manifests)
    }

    def selected(labels: dict[str, str]) -> set[str]:
        return {name for name, given in pods.items() if labels.items() <= given.items()}

    for each in workloads(manifests):
        assert selected(each["spec"]["selector"]["matchLabels"]) == {each["metadata"]["name"]}
    [service] = of_kind(manifests, "Service")
    assert selected(service["spec"]["selector"]) == {"ratus"}
    assert [port["targetPort"] for port in service["spec"]["ports"]] == ["http"]
    for each in of_kind(manifests, "PodDisruptionBudget"):
        assert selected(each["spec"]["selector"]["matchLabels"]) == {"ratus"}
    for each in of_kind(manifests, "NetworkPolicy"):
        assert selected(each["spec"]["podSelector"]["matchLabels"]) == set(pods)
    for each in of_kind(manifests, "ServiceMonitor"):
        assert each["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
        assert {e["port"] for e in each["spec"]["endpoints"]} <= {p["name"] for p in service["spec"]["ports"]}


def test_secrets_are_named_and_never_given(manifests: list[dict[str, Any]]) -> None:
    assert of_kind(manifests, "Secret") == []
    for each in walk(manifests):
        for reference in (each.get("secretKeyRef"), each.get("credentials")):
            if reference:
                assert reference["key"] in SECRETS[reference["name"]]
        if "secret" in each:
            keys = {item["key"] for item in each["secret"]["items"]}
            assert keys <= SECRETS[each["secret"]["secretName"]]
    told = "\n".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("kustomization.yaml"))
    for name, keys in SECRETS.items():
        [command] = re.findall(rf"kubectl create secret generic {name} (.*)", told)
        assert set(re.findall(r"--from-(?:file|literal)=(\w+)", command)) == keys
