"""The image: built from its Dockerfile by a real engine, and run as it is meant to be run.

On a read-only file system, as its own user, without any capability, and with nothing to write to but `/data`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import stat
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ratus import __version__
from tests.deployments.engine import RATUS, REVISION, VERSION, Engine
from tests.deployments.tools import DEPLOYMENTS, ROOT, need
from tests.servers import PATIENCE, Api, Client, eventually, free_port, request_bytes

DOCKERFILE = DEPLOYMENTS / "docker/Dockerfile"
# "Stops within seconds": a second or less of it is the engine's own.
STOP_SECONDS = 10


def test_the_linter_has_nothing_to_say() -> None:
    done = subprocess.run([need("hadolint"), DOCKERFILE], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_the_image_says_of_itself(engine: Engine) -> None:
    image = engine.inspect(RATUS)["Config"]
    # Numbers: Kubernetes cannot tell whether a name is root.
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", image["User"])
    # A list: a shell in between would keep SIGTERM for itself.
    assert image["Entrypoint"] == ["ratus"]
    assert not image.get("Cmd")
    assert image["Volumes"] == {"/data": {}}
    assert image["WorkingDir"] == "/data"
    environment = dict(each.split("=", 1) for each in image["Env"])
    assert list(image["ExposedPorts"]) == [f"{environment['PORT']}/tcp"]
    labels = {name.removeprefix("org.opencontainers.image."): text for name, text in image["Labels"].items()}
    assert labels["version"] == VERSION
    assert labels["revision"] == REVISION
    assert labels["licenses"] == "Apache-2.0"
    assert {"title", "description"} <= set(labels)


def test_it_holds_the_package_alone(engine: Engine) -> None:
    """Nothing of the build but the environment; no pip in it; and all of it belongs to root."""
    script = """
import json, os, pathlib, sys
from importlib.metadata import distributions
import ratus, ratus_engines.mongodb.engine
not_roots = [str(path) for path in pathlib.Path(sys.prefix).rglob("*") if path.lstat().st_uid]
installed = [each.name.lower() for each in distributions()]
print(json.dumps([ratus.__version__, ratus.__file__, installed, not_roots, os.listdir("/")]))
"""
    command = ["run", "--rm", "--network=none", "--entrypoint=python", RATUS, "-c", script]
    version, file, installed, not_roots, folders = json.loads(engine.run(*command).stdout)
    assert version == __version__
    assert file.startswith("/opt/ratus/")
    pins = (DEPLOYMENTS / "docker/requirements.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", pins, re.MULTILINE))
    assert {name.replace("_", "-") for name in installed} == pinned | {"ratus-queue"}
    assert not_roots == []
    assert "build" not in folders


def test_the_context_is_no_more_than_the_package(engine: Engine, tmp_path: Path) -> None:
    """What a build sends to the engine: no history, no virtualenv, no secrets that lie about."""
    file = tmp_path / "Dockerfile"
    file.write_text("FROM scratch\nCOPY . /context\n")
    engine.build(file, "localhost/context")
    archive = tmp_path / "context.tar"
    engine.run("save", "--format", "docker-dir", "--output", str(archive), "localhost/context")
    sent: set[str] = set()
    for layer in archive.iterdir():
        listed = subprocess.run(["tar", "-tf", layer], capture_output=True, text=True, check=False)
        sent |= {name.removeprefix("context/") for name in listed.stdout.splitlines() if name[-1] != "/"}
    there = {ROOT / name for name in ("LICENSE", "README.md", "pyproject.toml")}
    for folder in ("ratus", "engines", "deployments/docker"):
        there |= {path for path in (ROOT / folder).rglob("*") if path.is_file()}
    assert sent == {path.relative_to(ROOT).as_posix() for path in there if "__pycache__" not in path.parts}


class Container:
    """The server in a container on this machine's own network, on 127.0.0.1."""

    def __init__(self, engine: Engine, name: str, environment: Mapping[str, str]) -> None:
        self.engine, self.name, self.port = engine, name, free_port()
        self._variables = {"BIND": "127.0.0.1", "PORT": str(self.port), **environment}

    def start(self) -> None:
        """Run it, confined as far as an engine can, and wait until it is ready."""
        options = [
            "--read-only",
            "--read-only-tmpfs=false",
            "--cap-drop=all",
            "--security-opt=no-new-privileges",
        ]
        for name, value in self._variables.items():
            options += ["--env", f"{name}={value}"]
        volume = f"{self.name}:/data"
        self.engine.run(
            *("run", "--detach", "--name", self.name, "--network=host", "--volume", volume), *options, RATUS
        )
        eventually(self.is_ready, f"{self.name} to be ready")

    def is_ready(self) -> bool:
        """Whether it says so; it may not even listen yet."""
        with contextlib.suppress(OSError), Api(self.port) as probe:
            return probe.get("/readyz").status == 200
        assert self.engine.inspect(self.name)["State"]["Running"], self.log()
        return False

    def log(self) -> str:
        return self.engine.run("logs", self.name).stderr

    def check_health(self, *command: str) -> int:
        """Run the check of the image, or this one in its place; the exit code."""
        run = ("exec", self.name, *command) if command else ("healthcheck", "run", self.name)
        return self.engine.run(*run, check=False).returncode

    def stop(self) -> int:
        """Stop it as engines do, by SIGTERM; the exit code."""
        started = time.monotonic()
        self.engine.run("stop", "--time", str(int(PATIENCE)), self.name)
        assert time.monotonic() - started < STOP_SECONDS
        code: int = self.engine.inspect(self.name)["State"]["ExitCode"]
        return code


@pytest.fixture(params=["memdb", "sqlite"])
def container(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Container]:
    """A container with an engine that keeps tasks on the volume; gone at the end, with the volume."""
    made = Container(engine, f"test-{request.param}-{os.getpid()}", {"ENGINE": request.param})
    try:
        yield made
    finally:
        engine.run("rm", "--force", "--time", "0", "--volumes", made.name, check=False)
        engine.run("volume", "rm", "--force", made.name, check=False)


def test_tasks_live_on_the_volume(container: Container) -> None:
    """A server is stopped, its container thrown away; the next one has its tasks."""
    container.start()
    with Api(container.port) as api:
        api.insert("mail", "1", payload={"n": 1})
        claim = api.claim("mail", consumer="worker")
    assert container.check_health() == 0
    assert container.check_health("python", "-I", "/opt/ratus/healthcheck.py", "/readyz") == 0
    shown = container.engine.run("exec", container.name, "stat", "--format=%u:%g %a", ".").stdout
    assert shown.split() == ["10001:10001", "750"]
    assert container.stop() == 0, container.log()
    container.engine.run("rm", container.name)
    container.start()
    with Api(container.port) as api:
        assert api.task("1")["nonce"] == claim["nonce"]
        api.commit("1", nonce=claim["nonce"])
    assert container.stop() == 0, container.log()


def test_a_poll_that_waits_does_not_hold_up_the_stop(engine: Engine) -> None:
    name = f"test-waiting-{os.getpid()}"
    container = Container(engine, name, {"MEMDB_SNAPSHOT_PATH": ""})
    try:
        container.start()
        poll = Client(container.port)
        with poll.sock, Api(container.port) as api:
            poll.send(request_bytes("POST", "/v1/topics/none/promises?wait=60s"))
            # The server answers in order of arrival: it has seen the poll by now.
            assert api.get("/livez").status == 200
            assert container.stop() == 0
            assert poll.answer("POST").status == 503
    finally:
        engine.run("rm", "--force", "--time", "0", "--volumes", name, check=False)
        engine.run("volume", "rm", "--force", name, check=False)


def test_a_wrong_setting_ends_it_with_one_line(engine: Engine) -> None:
    done = engine.run("run", "--rm", "--network=none", RATUS, "--engine", "nosuch", check=False)
    assert done.returncode == 2
    assert "nosuch" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_files_that_are_copied_can_be_read_by_everybody() -> None:
    """The image keeps their modes, and its user is not their owner."""
    for path in (DEPLOYMENTS / "docker").iterdir():
        assert path.stat().st_mode & stat.S_IROTH, path
