"""The contract suite, unchanged, on a replica set."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.engines.mongodb import servers

ROOT = Path(__file__).resolve().parents[3]

# A write waits for two of three members here: ten times as long as alone.
STEPS = "250"


def test_the_contract_suite_passes(replica_set: servers.ReplicaSet) -> None:
    # Of the machine's two tests the long run: each example of the other begins with an empty database.
    # MongoDB does not promise to be immediate; whatever else is skipped was not tried.
    wanted = "mongodb and not test_no_difference_to_the_model[mongodb] and not immediate"
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "tests/engines/contract", "-q", "-k", wanted),
            *("-n", "0", "-p", "no:cacheprovider", "--no-header"),
        ],
        cwd=ROOT,
        env={**os.environ, servers.URI_VARIABLE: replica_set.uri, "RATUS_MACHINE_STEPS": STEPS},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2_000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
