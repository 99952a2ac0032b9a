"""wrk, a compiled load generator: as many requests as are answered, over a number of connections."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.processes import LOAD_CORE

SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """What wrk has found."""

    rate: float
    """Requests answered a second."""
    p50: float
    """Milliseconds, like the others."""
    p99: float
    p999: float
    failed: int
    """Requests that were refused or lost."""


def load(address: str, connections: int, seconds: int, arguments: Sequence[str]) -> Load:
    """Load a server from the load generator's core; the arguments are those of load.lua."""
    command = [
        processes.program("wrk", "wrk"), "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s",
        "-s", SCRIPT, address, "--", *arguments,
    ]  # fmt: skip
    found = json.loads(processes.run(command, LOAD_CORE).splitlines()[-1])
    return Load(
        rate=found["requests"] / found["seconds"],
        p50=found["p50"] / 1000,
        p99=found["p99"] / 1000,
        p999=found["p999"] / 1000,
        failed=found["refused"] + found["lost"],
    )
