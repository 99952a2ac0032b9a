"""Requests made up from the document, by schemathesis, against the live server: it answers as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from scripts.openapi.operations import OPERATIONS
from tests.servers import Api, serving

# Enough to reach every member of every body, and done in ten seconds.
MAX_EXAMPLES = 20

# Tasks for the polls that the document gives as examples.
PREPARED = 500


def _command(url: str) -> list[str]:
    config = Path(__file__).with_name("schemathesis.toml")
    return [
        *(
            sys.executable,
            "-m",
            "schemathesis.cli",
            "--config-file",
            str(config),
            "run",
            f"{url}/openapi.json",
            # The document's own address is relative, which schemathesis does not resolve.
            *("--url", url),
        ),
        *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful", "--continue-on-failure"),
        *("--max-examples", str(MAX_EXAMPLES), "--generation-deterministic", "--no-color"),
    ]


def test_the_server_answers_as_documented(tmp_path: Path) -> None:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
    }
    with serving(tmp_path) as server:
        with Api(server.port) as api:
            for topic in ("example", "urgent", "bulk"):
                tasks = [{"_id": f"{topic}-{number}"} for number in range(PREPARED)]
                assert api.post(f"/v1/topics/{topic}/tasks", {"data": tasks}).status == 201
        command = _command(f"http://127.0.0.1:{server.port}")
        found = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )

    assert found.returncode == 0, found.stdout + found.stderr
    assert re.search(rf"Tested: +{len(OPERATIONS)}\b", found.stdout), found.stdout
