"""Starts processes on cores of their own, and ends every one of them, whatever happens here."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.benchmark import Unavailable
from benchmarks.progress import step

ROOT = Path(__file__).resolve().parent.parent

START_SECONDS = 60.0
"""A server is up within a second or two; one that loads a million tasks takes longer, a busy machine too."""
STOP_SECONDS = 60.0
"""An orderly stop writes the last snapshot."""
COMMAND_SECONDS = 600.0
"""No single measurement takes longer; one that does hangs."""

CPU_LATENCY = Path("/dev/cpu_dma_latency")
"""Takes the microseconds that a core may need to wake up, for as long as it is open."""

DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


def cores() -> tuple[int, int] | None:
    """The core of servers and the core of load generators and workers; ``None`` on a single core."""
    allowed = sorted(os.sched_getaffinity(0))
    return (allowed[0], allowed[1]) if len(allowed) > 1 else None


_CORES = cores()
SERVER_CORE = _CORES[0] if _CORES else None
LOAD_CORE = _CORES[1] if _CORES else None


def environment() -> dict[str, str]:
    """The environment of children: they find the same packages, installed or not."""
    paths = [str(ROOT), str(ROOT / "engines"), *filter(None, sys.path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def start(command: Sequence[object], core: int | None = None, **options: Any) -> subprocess.Popen[Any]:
    """Start a process in a session of its own, so that Ctrl-C reaches only us and we end it in order.

    It dies with us even when we are killed. Programs see to that and to the core, not code of ours between
    fork and exec: an interrupt that comes meanwhile would be lost.
    """
    prefix = list(DIE_WITH_PARENT) if shutil.which("setpriv") else []
    if core is not None and shutil.which("taskset"):
        prefix += ["taskset", "-c", str(core)]
    options.setdefault("env", environment())
    return subprocess.Popen([*prefix, *map(str, command)], start_new_session=True, **options)


def stop(process: subprocess.Popen[Any], number: signal.Signals = signal.SIGTERM) -> None:
    """End a process and its children: in order if it can, and by force if it takes too long."""
    if process.poll() is None:
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@contextlib.contextmanager
def running(
    command: Sequence[object],
    ready: Callable[[], bool],
    *,
    core: int | None = None,
    number: signal.Signals = signal.SIGTERM,
    **options: Any,
) -> Iterator[subprocess.Popen[Any]]:
    """A server for the time of the block, once it is ready. Raises `RuntimeError` with its last words."""
    with tempfile.TemporaryFile() as log:
        process = start(command, core, stdout=log, stderr=subprocess.STDOUT, **options)
        try:
            deadline = time.monotonic() + START_SECONDS
            while not ready():
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    words = log.read()[-2000:].decode(errors="replace")
                    raise RuntimeError(f"{shlex.join(map(str, command))} did not start:\n{words}")
                time.sleep(0.02)
            yield process
        finally:
            stop(process, number)


@contextlib.contextmanager
def awake() -> Iterator[bool]:
    """Keep the cores from sleeping in the block, where the system lets us (Linux, as root); whether it does.

    A virtual machine may get a core back milliseconds after it was to wake up.
    https://docs.kernel.org/admin-guide/pm/cpuidle.html#power-management-quality-of-service-for-cpus
    """
    try:
        latency = os.open(CPU_LATENCY, os.O_WRONLY)
    except OSError:
        yield False
        return
    try:
        os.write(latency, struct.pack("=i", 0))
        yield True
    finally:
        os.close(latency)


def run(command: Sequence[object], core: int | None = None, *, expected: int = 0, **options: Any) -> str:
    """Run a command to its end; its standard output.

    Raises `RuntimeError` with its last words unless it ends with the exit code that is expected.
    """
    process = start(command, core, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
    try:
        output, errors = process.communicate(timeout=COMMAND_SECONDS)
    finally:
        stop(process, signal.SIGKILL)
    if process.returncode != expected:
        words = errors[-2000:] or output[-2000:]
        raise RuntimeError(f"{shlex.join(map(str, command))} ended with {process.returncode}:\n{words}")
    return str(output)


def call(module: str, *arguments: object, core: int | None = None) -> Any:
    """Run one of our modules in a process of its own, so that nothing is left over; the JSON it prints."""
    return json.loads(run([sys.executable, "-m", module, *map(str, arguments)], core))


def program(name: str, package: str) -> str:
    """The path of a program. Raises `Unavailable`."""
    found = shutil.which(name)
    if found is None:
        raise Unavailable(f"{name} is needed: apt-get install {package}")
    return found


def cache() -> Path:
    """Where what is built or installed once is kept between runs."""
    place = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(place) / "ratus-benchmarks"


def virtualenv(place: Path, packages: Sequence[str]) -> Path:
    """The programs of a virtualenv that holds these packages, which is made where it is not there yet."""
    stamp, programs = place / "installed", place / "bin"
    if not stamp.exists() or stamp.read_text().splitlines() != list(packages):
        step(f"installing {', '.join(packages)}")
        # Our own packages are not to be taken for theirs.
        clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        run([sys.executable, "-m", "venv", "--clear", place], env=clean)
        run([programs / "pip", "install", "-qq", *packages], env=clean)
        stamp.write_text("\n".join(packages))
    return programs


def free_port() -> int:
    """A port of loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def listens(port: int) -> bool:
    """Whether somebody takes connections on the port."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def answers(address: str) -> bool:
    """Whether a GET of this address is answered with 200."""
    with contextlib.suppress(OSError), urllib.request.urlopen(address, timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds(pid: int) -> float:
    """Processor time that a process has used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def end_on_signals() -> None:
    """Make SIGTERM end this process the way Ctrl-C does: through every ``finally``."""

    def end(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, end)
