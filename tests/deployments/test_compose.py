"""The compose files: Docker Compose itself reads each, and runs those that need no images of others."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ratus.server.connection_limits import ConnectionLimits
from tests.deployments.engine import BUILD_PATIENCE, MONGODB, RATUS, Engine
from tests.deployments.settings import VARIABLES, seconds
from tests.deployments.tools import DEPLOYMENTS, need
from tests.servers import Api, eventually, free_port

FOLDER = DEPLOYMENTS / "compose"
# What stands for itself: `ratus` is extended by the others, and `tokens` is given beside one of them.
PARTS = {"ratus.yaml": (), "tokens.yaml": ("sqlite.yaml",)}
FILES = sorted(path.name for path in FOLDER.glob("*.yaml") if path.name not in PARTS)
# Values for what has no default.
CHOSEN = {"GRAFANA_PASSWORD": "chosen", "RATUS_TOKENS_FILE": "./tokens"}


def compose(*files: str, arguments: tuple[str, ...], environment: dict[str, str]) -> str:
    """One command of Docker Compose on these files; what it prints. It has to succeed."""
    named = [part for file in files for part in ("--file", str(FOLDER / file))]
    done = subprocess.run(
        [need("docker-compose"), *named, *arguments],
        env={"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/")} | environment,
        capture_output=True,
        text=True,
        timeout=BUILD_PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def read(*files: str, **environment: str) -> Any:
    """The whole of a deployment as Compose understands it."""
    arguments = ("config", "--format", "json")
    return json.loads(compose(*files, arguments=arguments, environment=CHOSEN | environment))


@pytest.fixture(params=[*((name,) for name in FILES), ("sqlite.yaml", "tokens.yaml")], ids="+".join)
def deployment(request: pytest.FixtureRequest) -> Any:
    """Each deployment in turn, as Compose understands it."""
    return read(*request.param)


def test_every_file_is_tried() -> None:
    assert {path.name for path in FOLDER.glob("*.yaml")} == {*FILES, *PARTS}
    assert {"memdb.yaml", "sqlite.yaml", "mongodb.yaml", "monitoring.yaml"} <= set(FILES)


def test_every_service_is_confined(deployment: Any) -> None:
    for name, service in deployment["services"].items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert "privileged" not in service, name
        for mount in service.get("volumes", ()):
            assert mount["type"] == "volume" or mount["read_only"], f"{name} may write to {mount['source']}"


def test_nobody_else_reaches_a_port_unless_told_to(deployment: Any) -> None:
    for service in deployment["services"].values():
        for port in service.get("ports", ()):
            assert port["host_ip"] == "127.0.0.1"


def test_every_service_lives_on_and_says_how_it_is(deployment: Any) -> None:
    for name, service in deployment["services"].items():
        once = service["restart"] == "on-failure"
        assert once or service["restart"] == "unless-stopped", name
        assert service["healthcheck"].get("disable", False) == once, name
        for other in service.get("depends_on", {}).values():
            assert other["condition"] in ("service_healthy", "service_completed_successfully"), name


def test_images_are_pinned(deployment: Any) -> None:
    for name, service in deployment["services"].items():
        if "build" in service or name == "initiate":
            assert service["image"] == "ratus"
        else:
            assert re.fullmatch(r"[\w/]+:v?\d+\.\d+[\w.-]*", service["image"]), name


def test_the_server_has_time_to_stop(deployment: Any) -> None:
    """Requests in flight get as long as a connection may stand still; then a snapshot is written."""
    service = deployment["services"]["ratus"]
    delay = seconds(service.get("environment", {}).get("SHUTDOWN_DELAY", "0s"))
    assert seconds(service["stop_grace_period"]) >= delay + ConnectionLimits().body_seconds + 20


def test_it_is_told_what_it_knows(deployment: Any) -> None:
    service = deployment["services"]["ratus"]
    assert set(service.get("environment", {})) <= VARIABLES
    assert "command" not in service or service["command"] is None
    [port] = service["ports"]
    assert port["target"] == 8000


def test_what_is_mounted_is_there(deployment: Any) -> None:
    for service in deployment["services"].values():
        for mount in service.get("volumes", ()):
            if mount["type"] == "bind":
                assert Path(mount["source"]).exists(), mount["source"]


def mounts(service: Any) -> dict[str, Path]:
    """What of this repository a service sees where."""
    return {each["target"]: Path(each["source"]) for each in service["volumes"] if each["type"] == "bind"}


def test_prometheus_finds_its_rules_and_the_server(tmp_path: Path) -> None:
    services = read("monitoring.yaml")["services"]
    for target, source in mounts(services["prometheus"]).items():
        copy = tmp_path / target[1:]
        copy.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, copy)
    [file] = [each.split("=")[1] for each in services["prometheus"]["command"] if "config.file" in each]
    command = [need("promtool"), "check", "config", str(tmp_path / file[1:])]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 rule files found" in done.stdout
    settings = yaml.safe_load((tmp_path / file[1:]).read_text(encoding="utf-8"))
    [targets] = [each["static_configs"][0]["targets"] for each in settings["scrape_configs"]]
    assert targets == [f"ratus:{services['ratus']['ports'][0]['target']}"]


def test_grafana_finds_prometheus_and_the_dashboard() -> None:
    services = read("monitoring.yaml")["services"]
    seen = mounts(services["grafana"])
    provisioning = seen["/etc/grafana/provisioning"]
    [provider] = yaml.safe_load((provisioning / "dashboards/ratus.yml").read_text())["providers"]
    assert list(seen[provider["options"]["path"]].glob("*.json"))
    [source] = yaml.safe_load((provisioning / "datasources/prometheus.yml").read_text())["datasources"]
    assert source["url"] == f"http://prometheus:{services['prometheus']['ports'][0]['target']}"


# --- run ----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def up(engine: Engine, *files: str, **environment: str) -> Iterator[tuple[int, dict[str, str]]]:
    """A deployment that is up until the block ends: the server's port, and the environment of Compose."""
    port = free_port()
    with engine.serving_docker() as docker:
        # Other tests may run the same file at the same time.
        own = {"COMPOSE_PROJECT_NAME": f"test-{port}", "RATUS_IMAGE": RATUS, "RATUS_PORT": str(port)}
        everything = docker | own | environment
        try:
            with engine.checking_health():
                start = ("up", "--detach", "--no-build", "--wait", "--wait-timeout", "120")
                compose(*files, arguments=start, environment=everything)
            yield port, everything
        finally:
            # MongoDB would go on for a while; how the server stops is tried before.
            compose(*files, arguments=("kill",), environment=everything)
            compose(*files, arguments=("down", "--volumes"), environment=everything)


@pytest.mark.parametrize("name", ["memdb", "sqlite"])
def test_one_server_keeps_its_tasks(engine: Engine, name: str) -> None:
    with up(engine, f"{name}.yaml") as (port, environment):
        with Api(port) as api:
            api.insert("mail", "1")
        compose(f"{name}.yaml", arguments=("stop",), environment=environment)
        state = engine.inspect(f"test-{port}-ratus-1")["State"]
        assert state["ExitCode"] == 0
        with engine.checking_health():
            arguments = ("up", "--detach", "--no-build", "--wait", "--force-recreate")
            compose(f"{name}.yaml", arguments=arguments, environment=environment)
        with Api(port) as api:
            assert api.task("1")["state"] == 0


def test_a_replica_set_is_made_once(engine: Engine) -> None:
    engine.build_mongodb()
    with up(engine, "mongodb.yaml", MONGODB_IMAGE=MONGODB) as (port, environment):
        with Api(port) as api:
            api.insert("mail", "1")
        # A second start finds it made; tasks survive that the server's container is thrown away.
        with engine.checking_health():
            again = ("up", "--detach", "--no-build", "--wait", "--force-recreate", "--no-deps")
            arguments = (*again, "ratus", "initiate")
            compose("mongodb.yaml", arguments=arguments, environment=environment)
        with Api(port) as api:
            assert api.task("1")["state"] == 0
        assert "a member of a replica set already" in engine.run("logs", f"test-{port}-initiate-1").stdout


def test_tokens_are_read_again(engine: Engine, tmp_path: Path) -> None:
    tokens = tmp_path / "tokens"
    tokens.write_text("first-token\n")
    files = ("sqlite.yaml", "tokens.yaml")
    with up(engine, *files, RATUS_TOKENS_FILE=str(tokens)) as (port, environment):
        with Api(port) as api:
            assert api.get("/v1/topics").status == 401
        with Api(port, "first-token") as api:
            assert api.get("/v1/topics").status == 200
        tokens.write_text("other-token\n")
        compose(*files, arguments=("kill", "--signal", "HUP", "ratus"), environment=environment)
        with Api(port, "other-token") as api:
            eventually(lambda: api.get("/v1/topics").status == 200, "the other token")
