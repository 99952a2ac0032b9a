"""What keeps `ratus` from starting is one line that says what to do, with the exit code for it."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import PATIENCE, ROOT, Api, eventually, free_port, serving

COULD_NOT, WRONG = 1, 2
MONGODB = ("--engine", "mongodb")
SQLITE = ("--engine", "sqlite", "--sqlite-path")
SNAPSHOT = ("--memdb-snapshot-path",)

STARTS: list[tuple[str, tuple[str, ...], int, str]] = [
    ("an unknown flag", ("--prot", "1"), WRONG, "did you mean --port?"),
    ("a flag without its value", ("--engine",), WRONG, "expected one argument"),
    ("a value out of bounds", ("--retry-max-attempts=-1",), WRONG, "must be at least 0"),
    ("a duration without a unit", ("--chore-interval", "10"), WRONG, "300ms, 1.5s or 1h30m"),
    ("a word too many", ("serve", "now"), WRONG, "unexpected argument"),
    ("an unknown command", ("sevre",), WRONG, "the commands are serve"),
    ("an unknown engine", ("--engine", "redis"), WRONG, "memdb, mongodb, sqlite"),
    ("a file of tokens that is not there", ("--auth-tokens-file", "none"), WRONG, "cannot read"),
    (
        "a token with an unknown scope",
        ("--auth-tokens", "secret:all"),
        WRONG,
        "produce, consume, read, admin",
    ),
    ("a certificate without its key", ("--tls-certfile", "junk"), WRONG, "--tls-keyfile"),
    ("a certificate that is none", ("--tls-certfile=junk", "--tls-keyfile=junk"), COULD_NOT, "not a PEM"),
    ("an address of another machine", ("--bind", "192.0.2.1"), COULD_NOT, "choose another --bind"),
    ("a host that does not exist", ("--bind", "ratus.invalid"), COULD_NOT, "choose another --bind"),
    ("memdb: a folder that is not there", (*SNAPSHOT, "none/a"), COULD_NOT, "there is no folder"),
    ("memdb: a folder in its place", (*SNAPSHOT, "folder"), COULD_NOT, "not a regular file"),
    ("memdb: another file", (*SNAPSHOT, "junk"), COULD_NOT, "move it away to start empty"),
    ("sqlite: no path", (*SQLITE, ""), WRONG, "--sqlite-path is empty"),
    ("sqlite: a folder that is not there", (*SQLITE, "none/a"), COULD_NOT, "there is no folder"),
    ("sqlite: a folder in its place", (*SQLITE, "folder"), COULD_NOT, "not a regular file"),
    ("sqlite: another file", (*SQLITE, "junk"), COULD_NOT, "it is not an SQLite database"),
    ("mongodb: no URI", (*MONGODB, "--mongodb-uri", "http://db"), WRONG, "must begin with 'mongodb://'"),
    ("mongodb: no host", (*MONGODB, "--mongodb-uri", "mongodb://"), WRONG, "at least one hostname"),
    (
        "mongodb: a database that cannot be",
        (*MONGODB, "--mongodb-database", "a b"),
        WRONG,
        "--mongodb-database",
    ),
    (
        "mongodb: a collection without a name",
        (*MONGODB, "--mongodb-collection="),
        WRONG,
        "--mongodb-collection",
    ),
]


def start(folder: Path, *flags: str, port: int | None = None) -> tuple[int, str]:
    """Start a server that cannot be; its exit code and what it wrote to standard error."""
    command = [sys.executable, "-m", "ratus", *flags]
    if port is None:
        port = free_port()
    if flags[0] not in ("serve", "sevre"):
        command += [f"--port={port}", *(() if "--bind" in flags else ("--bind=127.0.0.1",))]
    environment = {"PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder to start in, with a file that is nothing, and a folder."""
    (tmp_path / "junk").write_text("junk")
    (tmp_path / "folder").mkdir()
    return tmp_path


@pytest.mark.parametrize(("flags", "code", "remedy"), [s[1:] for s in STARTS], ids=[s[0] for s in STARTS])
def test_it_is_one_line_and_its_exit_code(
    folder: Path, flags: tuple[str, ...], code: int, remedy: str
) -> None:
    before = sorted(folder.rglob("*"))
    got, said = start(folder, *flags)
    assert (got, said.count("\n")) == (code, 1), said
    assert remedy in said
    assert re.match(r"ratus: |\d{4}-\d\d-\d\dT[\d:.]+Z ERROR  ", said)
    assert "secret" not in said
    # A lock beside the data is no data, and stays.
    assert [path for path in sorted(folder.rglob("*")) if not path.name.endswith("lock")] == before
    assert (folder / "junk").read_text() == "junk"


@pytest.fixture
def taken() -> Iterator[int]:
    """A port that another program listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


@pytest.mark.parametrize("engine", ["memdb", "sqlite", "mongodb"])
def test_a_taken_port(engine: str, folder: Path, taken: int) -> None:
    code, said = start(folder, "--engine", engine, port=taken)
    assert (code, said.count("\n")) == (COULD_NOT, 1), said
    assert "address already in use; stop the program that holds it, or choose another --port" in said
    assert not (folder / "ratus.db").exists(), "the engine was opened before it was known that it can serve"


def test_a_snapshot_that_another_server_has(folder: Path) -> None:
    snapshot = folder / "ratus.snapshot"
    with serving(folder, "--memdb-snapshot-path", str(snapshot)):
        code, said = start(folder, "--memdb-snapshot-path", str(snapshot))
    assert (code, said.count("\n")) == (COULD_NOT, 1), said
    assert "stop it, or choose another path" in said


def test_a_database_that_cannot_be_reached_is_waited_for(folder: Path) -> None:
    """Servers and databases start in any order: no failure, but not ready, and the reason is told."""
    uri = f"mongodb://127.0.0.1:{free_port()}/"
    command = [sys.executable, "-m", "ratus", *MONGODB, "--mongodb-uri", uri]
    port = free_port()
    log = folder / "log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [*command, f"--port={port}", "--bind=127.0.0.1"],
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}"},
            stderr=output,
        )
    try:
        eventually(lambda: "not ready" in log.read_text(), "a warning")
        with Api(port) as api:
            answer = api.get("/readyz")
            assert answer.status == 503
            assert "MongoDB" in answer.json["error"]["message"]
            assert api.get("/livez").status == 200
    finally:
        server.terminate()
        code = server.wait(PATIENCE)
    assert code == 0
    assert all(" WARNING " in line for line in log.read_text().splitlines() if "MongoDB is not ready" in line)


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-"])
@pytest.mark.parametrize("engine", ["memdb", "sqlite"])
def test_closed_standard_streams(engine: str, closed: str, tmp_path: Path) -> None:
    """It serves, and ends as ever; no file of its own gets the number of a standard stream."""
    port = free_port()
    flags = f"--port {port} --bind 127.0.0.1 --engine {engine} --sqlite-path ratus.db"
    command = f"exec {sys.executable} -m ratus {flags} {closed}"
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}"}
    process = subprocess.Popen(["bash", "-c", command], cwd=tmp_path, env=environment)
    try:
        eventually(lambda: _answers(port), "an answer")
        for number in (0, 1, 2):
            held = os.readlink(f"/proc/{process.pid}/fd/{number}")
            assert "socket" not in held
            assert "anon_inode" not in held
            assert "ratus.db" not in held
        with Api(port) as api:
            api.insert("t", "1")
        process.terminate()
        assert process.wait(PATIENCE) == 0
    finally:
        process.kill()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with Api(port) as api:
            return api.get("/readyz").status == 200
    except OSError:
        return False
