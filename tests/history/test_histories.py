"""Servers are killed and paused and primaries deposed while clients work: what they saw must be right.

`RATUS_HISTORY_ROUNDS=100 pytest tests/history` makes trouble for as many rounds, of a second or two each.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from pathlib import Path

from pymongo.errors import PyMongoError

from tests.absent import absent
from tests.engines.mongodb import servers as mongod
from tests.history.checker import Claim, Commit, Insert, violations
from tests.history.cluster import cluster
from tests.history.recorder import CLAIM_TIMEOUT, Recorder

ROUNDS = int(os.environ.get("RATUS_HISTORY_ROUNDS", "5"))

# Seconds after which no request fails any more once there is a primary; claims that are under way together.
RECOVERY, CLAIMS_AT_ONCE = 5.0, 4

# What the clients do between two troubles. In seconds.
CALM = 0.5


def check(recorder: Recorder) -> None:
    """The history is right, and long enough to say something."""
    history = recorder.history
    found = violations(history)
    assert not found, "\n".join(found[:20])
    accepted = [type(request) for request in history.requests if request.accepted]
    for kind in (Insert, Claim, Commit):
        assert accepted.count(kind) > 20 * ROUNDS, f"only {accepted.count(kind)} of {kind.__name__}"


def test_one_server_in_memory_that_is_paused_and_restarted(tmp_path: Path) -> None:
    draw = random.Random(1)
    snapshot = str(tmp_path / "memdb.snapshot")
    with cluster(tmp_path, "--engine", "memdb", "--memdb-snapshot-path", snapshot, size=1) as servers:
        recorder = Recorder(servers.ports, seed=1)
        with recorder.running():
            for _ in range(ROUNDS):
                time.sleep(CALM)
                if draw.random() < 0.5:
                    servers.pause(0, draw.uniform(0.1, 1.2) * CLAIM_TIMEOUT)
                else:
                    servers.restart(0, signal.SIGTERM)

        check(recorder)


def test_two_servers_on_one_file_that_are_killed_and_paused(tmp_path: Path) -> None:
    draw = random.Random(2)
    with cluster(
        tmp_path, "--engine", "sqlite", "--sqlite-path", str(tmp_path / "ratus.db"), size=2
    ) as servers:
        recorder = Recorder(servers.ports, seed=2)
        with recorder.running():
            for _ in range(ROUNDS):
                time.sleep(CALM)
                if draw.random() < 0.4:
                    servers.pause(draw.randrange(2), draw.uniform(0.1, 1.2) * CLAIM_TIMEOUT)
                else:
                    servers.restart(draw.randrange(2), draw.choice((signal.SIGKILL, signal.SIGTERM)))

        check(recorder)


def test_two_servers_on_a_replica_set_with_elections(tmp_path: Path) -> None:
    if mongod.mongod() is None:
        absent(mongod.ABSENT)
    draw = random.Random(3)
    with (
        mongod.replica_set() as replicas,
        cluster(tmp_path, "--engine", "mongodb", "--mongodb-uri", replicas.uri, size=2) as servers,
    ):
        recorder = Recorder(servers.ports, seed=3)
        with recorder.running():
            for number in range(ROUNDS):
                time.sleep(CALM)
                trouble, began = draw.random(), time.monotonic()
                if number == 0 or trouble < 0.4:
                    step_down(replicas)
                elif trouble < 0.6:
                    primary = replicas.primary()
                    primary.kill()
                    replicas.primary()
                    primary.start()
                elif trouble < 0.8:
                    servers.pause(draw.randrange(2), draw.uniform(0.1, 1.2) * CLAIM_TIMEOUT)
                else:
                    servers.restart(draw.randrange(2), signal.SIGKILL)
                # A claim whose answer did not reach its server was under way for a while already; the server
                # looks for it once there is a primary again.
                hidden = (began - RECOVERY, time.monotonic() + RECOVERY)
                recorder.history.hidden_claims += [hidden] * CLAIMS_AT_ONCE

        check(recorder)


def step_down(replicas: mongod.ReplicaSet) -> None:
    """Have the primary hand over; it is not elected again for a second."""
    uri = f"mongodb://{replicas.primary().address}/?directConnection=true"
    with mongod.connected(uri) as client, contextlib.suppress(PyMongoError):
        client.admin.command("replSetStepDown", 1, secondaryCatchUpPeriodSecs=1, force=True)
    replicas.primary()
