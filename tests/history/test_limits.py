"""No limit is ever exceeded, and no place leaks, while servers on the same data are killed.

`RATUS_LIMITED_CLAIMS=20000 pytest tests/history/test_limits.py` makes so many claims, some hundred a second.
"""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.absent import absent
from tests.engines.mongodb import servers as mongod
from tests.history.cluster import cluster
from tests.history.limits import (
    CUSTOMERS,
    LIMITED,
    ORDERED,
    RATE_BURST,
    RATE_COUNT,
    Consumers,
    Held,
    excesses,
)
from tests.servers import Api

CLAIMS = int(os.environ.get("RATUS_LIMITED_CLAIMS", "2000"))

# Seconds between two kills.
CALM = 1.0

# On a replica set a claim under limits takes several round trips, each of which waits for a majority.
_SLOWER = 10


def limits_are_kept(folder: Path, *flags: str, claims: int, seed: int) -> None:
    """Eight consumers work against two servers, which are killed in turns."""
    draw = random.Random(seed)
    with cluster(folder, *flags, size=2) as servers:
        consumers = Consumers(servers.ports, claims, seed)
        with consumers.running():
            kills = 0
            while not consumers.done:
                time.sleep(draw.uniform(0.2, 1) * CALM)
                servers.restart(kills % 2, draw.choice((signal.SIGKILL, signal.SIGKILL, signal.SIGTERM)))
                kills += 1
        found = excesses(consumers.held)
        assert not found, "\n".join(found[:10])
        assert kills, "a server was killed while the consumers worked"
        assert sum(claim.topic == ORDERED for claim in consumers.held) > claims / 50
        with Api(servers.ports[0]) as api:
            consumers.check_places(api)


def test_two_servers_on_one_file(tmp_path: Path) -> None:
    flags = ("--engine", "sqlite", "--sqlite-path", str(tmp_path / "ratus.db"))
    limits_are_kept(tmp_path, *flags, claims=CLAIMS, seed=4)


def test_two_servers_on_one_replica_set(tmp_path: Path) -> None:
    if mongod.mongod() is None:
        absent(mongod.ABSENT)
    with mongod.replica_set() as replicas:
        flags = ("--engine", "mongodb", "--mongodb-uri", replicas.uri)
        limits_are_kept(tmp_path, *flags, claims=CLAIMS // _SLOWER, seed=5)


# ---- the check itself --------------------------------------------------------------------------------


def claim(
    answered: int, until: int, *, topic: str = LIMITED, customer: str = "c0", consumed: int = 0
) -> Held:
    return Held(topic, customer, "task", 0, consumed or answered, until, answered)


def test_claims_within_the_limits_are_not_found() -> None:
    far = itertools.count(0, 10**7)
    claims = [
        claim(at, at + 10, customer=name, consumed=next(far)) for name in CUSTOMERS[:3] for at in (0, 5)
    ]
    claims += [claim(10, 20, consumed=next(far)), claim(20, 30, consumed=next(far))]
    claims += [claim(0, 10, topic=ORDERED), claim(10, 20, topic=ORDERED)]
    assert excesses(claims) == []


@pytest.mark.parametrize(
    "claims",
    [
        [claim(at, at + 10, consumed=at * 10**7 + 1) for at in (0, 5, 9)],
        [claim(0, 10, customer=name, consumed=at * 10**7 + 1) for name in CUSTOMERS[:4] for at in (0, 1)],
        [claim(0, 10, topic=ORDERED), claim(9, 20, topic=ORDERED)],
        [claim(0, 0, consumed=at + 1) for at in range(RATE_COUNT + RATE_BURST)],
    ],
)
def test_claims_beyond_a_limit_are_found(claims: list[Held]) -> None:
    assert excesses(claims)
