"""What the figures were measured on: processors, system, versions, and how long the disk takes to sync."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import shutil
import sqlite3
import subprocess
import tempfile
import time
from pathlib import Path

from benchmarks import processes, services
from benchmarks.benchmark import Unavailable
from benchmarks.statistic import median

PACKAGES = ("uvicorn", "httptools", "uvloop", "msgspec", "pymongo")
SYNCS = 300


def describe() -> dict[str, str]:
    """Facts by name."""
    cores = len(os.sched_getaffinity(0))
    pinned = "server and load generator pinned to one each" if processes.cores() else "nothing is pinned"
    return {
        "processor": f"{_processor()}, {cores} cores; {pinned}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 1e9:.0f} GB",
        "disk": f"a small write and its sync take {_sync_milliseconds():.2f} ms",
        "system": f"Linux {'.'.join(platform.release().split('.')[:2])}, {_distribution()}",
        "Python": platform.python_version(),
        "packages": ", ".join(f"{name} {version}" for name, version in _packages()),
        "beside it": ", ".join(f"{name} {version}" for name, version in _programs()),
    }


def _processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = re.search(r"^model name\s*: (.*)$", text, re.MULTILINE)
    virtual = " in a virtual machine" if re.search(r"^flags.*\bhypervisor\b", text, re.MULTILINE) else ""
    return (name[1] if name else platform.machine()) + virtual


def _distribution() -> str:
    with contextlib.suppress(OSError):
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    return "an unknown distribution"


def _packages() -> list[tuple[str, str]]:
    found = [("SQLite", sqlite3.sqlite_version)]
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found.append((name, importlib.metadata.version(name)))
    return found


def _programs() -> list[tuple[str, str]]:
    found = []
    for name, path in _paths().items():
        # wrk tells its version on the way to complaining about a missing address.
        done = subprocess.run([path, "--version"], capture_output=True, text=True, check=False, timeout=30)
        if match := re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr):
            found.append((name, match[0]))
    return found


def _paths() -> dict[str, str]:
    paths = {name: path for name in ("wrk", "redis-server") if (path := shutil.which(name))}
    with contextlib.suppress(Unavailable):
        paths["PostgreSQL"] = str(services.postgresql_programs() / "postgres")
    with contextlib.suppress(Unavailable):
        paths["MongoDB"] = services.mongod()
    return paths


def _sync_milliseconds() -> float:
    """How long a small write and its sync take, in the middle of some hundred; where databases will be."""
    times = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for _ in range(SYNCS):
            started = time.perf_counter()
            file.write(b"x" * 4096)
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times) * 1000
