"""The commands of docs/deployment.md that need an engine are run, all of them, in their order."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

from tests.deployments.engine import BUILD_PATIENCE, REVISION, VERSION, Engine
from tests.deployments.tools import ROOT, need
from tests.documents.pages import blocks
from tests.servers import free_port

NAME = "tests/deployments/test_containers_page.py"
# On a reader's machine `docker` is Docker. Here images come from nowhere; and with the labels that the other
# tests' image has, this is the same one.
SHIM = """\
#!/bin/sh
set -e
case "$1" in
  build) shift; exec {podman} build --format docker --network host --pull=never {labels} "$@" ;;
  compose) shift; exec {compose} "$@" ;;
  *) exec {podman} "$@" ;;
esac
"""
WAIT = "until docker exec ratus python -I /opt/ratus/healthcheck.py /readyz; do sleep 0.1; done"


def test_the_commands_of_the_page(engine: Engine, tmp_path: Path) -> None:
    with engine.serving_docker() as environment, engine.checking_health():
        shim = tmp_path / "docker"
        podman = " ".join(map(shlex.quote, engine.command))
        labels = f"--build-arg VERSION={VERSION} --build-arg REVISION={REVISION}"
        shim.write_text(SHIM.format(podman=podman, labels=labels, compose=need("docker-compose")))
        shim.chmod(0o755)
        port = str(free_port())
        script = "\n".join(block.text for block in blocks("docs/deployment.md") if block.run_by == NAME)
        assert script.count("docker") >= 10
        script = script.replace("127.0.0.1:8000:8000", f"127.0.0.1:{port}:8000")
        # Nothing tells a shell when the container that it started is ready.
        script = script.replace("docker exec ratus ratus push", f"{WAIT}\ndocker exec ratus ratus push")
        variables = engine.environment | environment | {"RATUS_PORT": port, "COMPOSE_PROJECT_NAME": "page"}
        variables |= {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
        try:
            done = subprocess.run(
                ["sh", "-eux", "-c", script],
                cwd=ROOT,
                env=variables,
                capture_output=True,
                text=True,
                timeout=BUILD_PATIENCE,
                check=False,
            )
            assert done.returncode == 0, done.stdout + done.stderr
        finally:
            engine.run("rm", "--force", "--time", "0", "ratus", check=False)
            for volume in ("ratus", "page_data"):
                engine.run("volume", "rm", "--force", volume, check=False)
