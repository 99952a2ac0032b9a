"""Check the package as a user gets it: build it, install it alone, run it.

The wheel and the sdist are each installed into a virtualenv of their own, away from the source tree, and
served from a folder that holds a user's own ``engines`` package and others of our names, which must neither
break nor shadow ours. An engine of another package runs the contract suite out of the wheel. A program that
uses the client is type-checked against what was installed, and building twice has to give the same bytes.
Needs the development tools (``build``); prints one line per step and exits with 1 at the first that fails.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
ENGINES = ROOT / "engines"
# Starting takes well under a second; a loaded CI machine gets more.
START_SECONDS = 30
STOP_SECONDS = 15
# What a folder of a user's may hold that this repository has, too.
USERS_PACKAGES = ("engines/memdb", "engines/sqlite", "tests/engines", "benchmarks", "examples", "scripts")

# What a server sends as its specification, wherever it was installed from.
SPECIFICATION = {
    "/openapi.yaml": ROOT / "openapi.yaml",
    "/openapi.json": ROOT / "ratus/api/assets/openapi.json",
}

USERS_PROGRAM = """\
from ratus import Client, Delivery, Task


def handle(delivery: Delivery) -> None:
    delivery.set_result(delivery.attempts + 1)


with Client("http://127.0.0.1:8000") as ratus:
    ratus.insert_task(Task(id="1", topic="t"))
    reveal_type(ratus.get_task("1").attempts)
    ratus.subscribe("t", handle)
"""


class PackageError(Exception):
    """Something about the package is not as a user needs it."""


def step(text: str) -> None:
    """Say what is being checked."""
    print(f"package: {text}", flush=True)


def require(condition: object, text: str) -> None:
    """Raise ``PackageError`` with ``text`` unless ``condition`` holds."""
    if not condition:
        raise PackageError(text)


def run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command in ``cwd``, as a user's shell would: nothing of the source tree in its environment."""
    environment = {
        name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")
    }
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )


def succeed(*command: str | Path, cwd: Path) -> str:
    """Run a command that has to exit with 0; return what it printed."""
    done = run(*command, cwd=cwd)
    shown = " ".join(str(part) for part in command)
    require(done.returncode == 0, f"{shown}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def build(folder: Path) -> tuple[Path, Path]:
    """Build the sdist, and the wheel from the sdist; return both paths."""
    folder.mkdir()
    succeed(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    wheels, sdists = list(folder.glob("*.whl")), list(folder.glob("*.tar.gz"))
    require(
        len(wheels) == 1 and len(sdists) == 1, f"expected one wheel and one sdist, built {wheels + sdists}"
    )
    return wheels[0], sdists[0]


def check_reproducible(*first: Path, folder: Path) -> None:
    """Building once more gives the same bytes: whoever doubts a package can make it again."""
    for one, other in zip(first, build(folder), strict=True):
        same = hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()
        require(same, f"{one.name} comes out otherwise each time it is built")


def check_wheel_contents(wheel: Path) -> None:
    """The wheel holds the two import packages with every file of theirs, the license, and nothing else."""
    names = set(zipfile.ZipFile(wheel).namelist())
    metadata = next(name.split("/")[0] for name in names if name.endswith(".dist-info/METADATA"))
    tops = {name.split("/")[0] for name in names}
    require(tops == {"ratus", "ratus_engines", metadata}, f"the wheel would install {sorted(tops)}")
    require(f"{metadata}/licenses/LICENSE" in names, "the wheel has no LICENSE")
    require(
        {"ratus/py.typed", "ratus_engines/py.typed"} <= names,
        "the wheel does not say that it is typed (py.typed)",
    )
    for package in (ROOT / "ratus", ENGINES / "ratus_engines"):
        for path in package.rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                name = path.relative_to(package.parent).as_posix()
                require(name in names, f"the wheel lacks {name}")


def check_sdist_contents(sdist: Path) -> None:
    """The sdist holds what is needed to build, test and license it."""
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    for name in (
        "LICENSE",
        "README.md",
        "pyproject.toml",
        "ratus/__init__.py",
        "openapi.yaml",
        "tests/documents/pages.py",
    ):
        require(name in names, f"the sdist lacks {name}")


def make_virtualenv(folder: Path, package: Path) -> Path:
    """Make a virtualenv of ``package`` and what it requires, nothing else; return its ``bin`` folder."""
    venv.EnvBuilder(with_pip=True).create(folder)
    binaries = folder / "bin"
    succeed(binaries / "python", "-m", "pip", "install", "--quiet", package, cwd=folder)
    succeed(binaries / "python", "-m", "pip", "check", cwd=folder)
    return binaries


def make_user_folder(folder: Path) -> Path:
    """Make a folder with packages of a user's that are named like ours; importing one fails loudly."""
    for name in USERS_PACKAGES:
        (folder / name).mkdir(parents=True)
        for package in (folder / name, folder / name.partition("/")[0]):
            (package / "__init__.py").write_text(f'raise RuntimeError("imported the user\'s own {name}")\n')
    return folder


def free_port() -> int:
    """Return a port that is free now (the command takes 0 for "no API", so it cannot choose one itself)."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def request(url: str, method: str = "GET", body: object = None) -> tuple[int, Any]:
    """Send one request; return its status and the answer's JSON (``None`` for an empty answer)."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=10) as answer:
            status, text = answer.status, answer.read()
    except urllib.error.HTTPError as error:
        status, text = error.code, error.read()
    return status, json.loads(text) if text else None


@contextlib.contextmanager
def serve(*command: str | Path, cwd: Path) -> Iterator[str]:
    """Start the server and yield its address once it is ready; at the end SIGTERM has to stop it with 0."""
    port = free_port()
    log = cwd / "server.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*(str(part) for part in command), "--bind", "127.0.0.1", "--port", str(port)],
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_SECONDS
        while True:
            require(server.poll() is None, f"the server ended with {server.returncode}:\n{log.read_text()}")
            require(time.monotonic() < deadline, f"not ready after {START_SECONDS} s:\n{log.read_text()}")
            with contextlib.suppress(OSError):
                if request(f"{address}/readyz")[0] == 200:
                    break
            time.sleep(0.05)
        yield address
        server.send_signal(signal.SIGTERM)
        code = server.wait(STOP_SECONDS)
        require(code == 0, f"SIGTERM ended the server with {code} instead of 0:\n{log.read_text()}")
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()


def check_service(*command: str | Path, cwd: Path) -> None:
    """Serve, and take one task through its life."""
    with serve(*command, cwd=cwd) as address:
        require(request(f"{address}/livez") == (200, None), "/livez did not answer 200 and an empty body")
        tasks, promises = f"{address}/v1/topics/check/tasks", f"{address}/v1/topics/check/promises"
        status, _ = request(f"{tasks}/1", "POST", {"payload": {"n": 1}})
        require(status == 201, f"insert answered {status}")
        status, task = request(promises, "POST")
        require(status == 200 and task["_id"] == "1", f"poll answered {status} {task}")
        status, task = request(f"{tasks}/1", "PATCH", {"nonce": task["nonce"]})
        require(status == 200 and task["state"] == 2, f"commit answered {status} {task}")
        for page in ("/", "/metrics"):
            with urllib.request.urlopen(address + page, timeout=10) as answer:
                require(answer.read(), f"{page} is empty")
        for page, path in SPECIFICATION.items():
            with urllib.request.urlopen(address + page, timeout=10) as answer:
                require(answer.read() == path.read_bytes(), f"{page} is not {path.relative_to(ROOT)}")


def check_command(binaries: Path, cwd: Path) -> None:
    """The command says its version, and refuses an unknown engine in one line and with exit code 2."""
    version = succeed(binaries / "ratus", "--version", cwd=cwd).strip()
    installed = succeed(
        binaries / "python", "-c", "import importlib.metadata as m; print(m.version('ratus-queue'))", cwd=cwd
    ).strip()
    require(installed in version, f"--version says {version!r}, the package is {installed}")
    refused = run(binaries / "ratus", "--engine", "nosuch", "--port", str(free_port()), cwd=cwd)
    require(refused.returncode == 2, f"an unknown engine ended with {refused.returncode} instead of 2")
    require("nosuch" in refused.stderr and "Traceback" not in refused.stderr, f"unclear: {refused.stderr}")


def check_types(binaries: Path, cwd: Path) -> None:
    """A strict type checker knows what the installed client gives."""
    program = cwd / "program.py"
    program.write_text(USERS_PROGRAM)
    command = (sys.executable, "-m", "mypy", "--strict", "--cache-dir", cwd / "cache")
    told = succeed(*command, "--python-executable", binaries / "python", program, cwd=cwd)
    require('Revealed type is "int"' in told, f"the type of a member is not known: {told}")


def check_test_kit(binaries: Path, wheel: Path, folder: Path) -> None:
    """Without pytest, the test kit says what to install; with its extra, an engine's author runs it."""
    refused = run(binaries / "python", "-c", "import ratus.engine.testkit", cwd=folder.parent)
    require("pip install 'ratus-queue[testkit]'" in refused.stderr, f"unclear: {refused.stderr}")
    shutil.copytree(ROOT / "examples/engine", folder, ignore=shutil.ignore_patterns("__pycache__"))
    succeed(binaries / "python", "-m", "pip", "install", "--quiet", f"{wheel}[testkit]", ".", cwd=folder)
    succeed(binaries / "python", "-m", "pytest", "tests", cwd=folder)


def check() -> None:
    """Run every check; raise ``PackageError`` at the first that fails."""
    with tempfile.TemporaryDirectory(prefix="ratus-package-") as temporary:
        folder = Path(temporary)
        step("building the sdist and the wheel")
        wheel, sdist = build(folder / "dist")
        check_wheel_contents(wheel)
        check_sdist_contents(sdist)
        check_reproducible(wheel, sdist, folder=folder / "again")
        user_folder = make_user_folder(folder / "home")

        step(f"installing {wheel.name} alone")
        binaries = make_virtualenv(folder / "wheel", wheel)
        check_command(binaries, folder)
        check_service(binaries / "ratus", cwd=folder)
        check_types(binaries, folder)
        step("installing an engine of another package beside it")
        succeed(binaries / "python", "-m", "pip", "install", "--quiet", ROOT / "examples/engine", cwd=folder)
        check_service(binaries / "ratus", "--engine", "journal", cwd=folder)
        require((folder / "ratus.journal").stat().st_size, "the engine of another package kept nothing")
        step("running the contract suite on it")
        check_test_kit(binaries, wheel, folder / "author")
        step("serving from a folder with its own engines/, tests/ and the like")
        check_command(binaries, user_folder)
        # -m puts the current folder on the import path, in front of everything.
        check_service(binaries / "python", "-m", "ratus", cwd=user_folder)

        step(f"installing {sdist.name} alone")
        binaries = make_virtualenv(folder / "sdist", sdist)
        check_command(binaries, user_folder)
        check_service(binaries / "ratus", cwd=user_folder)
    step("all good")


def main() -> int:
    """Run the checks and return the exit code."""
    try:
        check()
    except (PackageError, OSError) as error:
        print(f"package: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
