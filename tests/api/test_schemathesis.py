"""Requests made up from the document, by schemathesis, against the live server: it answers as documented."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from tests.api.live import serving

# Enough to reach every member of every body, and done in well under a minute.
MAX_EXAMPLES = 20

SEED = 20260131


def test_the_server_answers_as_documented(tmp_path: Path) -> None:
    with serving(tmp_path) as url:
        found = subprocess.run(
            [
                *(sys.executable, "-m", "schemathesis.cli", "run", f"{url}/openapi.json"),
                *("--checks", "all", "--phases", "examples,coverage,fuzzing,stateful"),
                *("--max-examples", str(MAX_EXAMPLES), "--seed", str(SEED), "--generation-deterministic"),
                *(
                    "--generation-database",
                    "none",
                    "--continue-on-failure",
                    "--request-timeout",
                    "30",
                    "--no-color",
                ),
            ],
            cwd=tmp_path,
            env={
                **os.environ,
                "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_hooks",
                "PYTHONPATH": os.pathsep.join(sys.path),
            },
            capture_output=True,
            text=True,
            check=False,
        )

    assert found.returncode == 0, found.stdout[-20_000:] + found.stderr
    tested = re.search(r"Operations: *.*?(\d+)", found.stdout)
    assert tested
