"""How many small requests a second each HTTP library gets through, one after the other or 32 at a time.

Server and client have a core each; a request replaces one task. The libraries are installed into
virtualenvs of their own, once: niquests brings a urllib3 of its own under the same name, which the others
would use.
"""

from __future__ import annotations

import json
import os
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes, services
from benchmarks.benchmark import Rows, Scale, Tables
from benchmarks.processes import LOAD_CORE, ROOT
from benchmarks.progress import step

PROGRAM = Path(__file__).parent / "peers" / "http_libraries_peer.py"
OURS = "ratus"
# What is installed together, and what is measured there.
SETS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "most": (
        ("aiohttp", "httpx", "requests", "urllib3"),
        (OURS, "http.client", "urllib3", "requests", "httpx", "aiohttp"),
    ),
    "niquests": (("niquests",), (OURS, "niquests")),
}

SMOKE: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {"most": ((), (OURS, "http.client"))}


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    seconds: float
    rounds: int


SIZES = {Scale.SMOKE: Sizes(0.05, 1), Scale.QUICK: Sizes(0.5, 3), Scale.FULL: Sizes(0.5, 5)}


def measure(scale: Scale) -> Tables:
    """A row for each library and way of using it; the share is of our client's rate in the same process."""
    sizes = SIZES[scale]
    rows: Rows = []
    with services.ratus() as server:
        # Nothing is downloaded for a look at whether it works.
        for name, (packages, libraries) in (SMOKE if scale is Scale.SMOKE else SETS).items():
            python = _install(name, packages) if packages else Path(sys.executable)
            step(f"requests with {', '.join(libraries)}")
            command = [python, PROGRAM, server.address, str(sizes.seconds), str(sizes.rounds), *libraries]
            environment = {**os.environ, "PYTHONPATH": str(ROOT)}
            found = json.loads(processes.run(command, LOAD_CORE, env=environment))
            ours = {row["mode"]: row["requests/s"] for row in found if row["library"] == OURS}
            rows += (
                {**row, "share of ours": row["requests/s"] / ours[row["mode"]]}
                for row in found
                if row["library"] != OURS or name == "most"
            )
    return {"http-libraries": sorted(rows, key=lambda row: (row["mode"], -row["share of ours"]))}


def _install(name: str, packages: tuple[str, ...]) -> Path:
    """The interpreter of a virtualenv that holds these and what our client needs."""
    venv = processes.cache() / "http-libraries" / name
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return processes.virtualenv(venv, (*packages, *needs)) / "python"
