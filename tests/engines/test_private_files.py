"""Files that hold tasks can be read by their owner alone, whatever the umask of the server."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from ratus import cli
from tests.servers import Api, serving


@pytest.fixture(autouse=True)
def _open_umask() -> Iterator[None]:
    """Processes of this test make files for everybody, unless they say otherwise."""
    before = os.umask(0)
    yield
    os.umask(before)


def modes(folder: Path) -> dict[str, str]:
    """The permissions of the files of a folder, those of the log of the test's server left out."""
    files = [each for each in folder.iterdir() if not each.name.startswith("server-")]
    return {each.name: oct(stat.S_IMODE(each.stat().st_mode)) for each in files}


def test_memdb(tmp_path: Path) -> None:
    path = tmp_path / "ratus.snapshot"
    # A process that was killed while it wrote, of a version that made files for everybody.
    path.with_name("ratus.snapshot.partial").write_bytes(b"")
    flags = (
        "--memdb-snapshot-path",
        str(path),
        "--memdb-snapshot-interval",
        "1ms",
        "--chore-interval",
        "10ms",
    )
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("t", "1")
        api.close()
        server.stop()
    assert modes(tmp_path) == {"ratus.snapshot": "0o600", "ratus.snapshot.lock": "0o600"}


def test_sqlite_and_its_copies(tmp_path: Path) -> None:
    path, copy = tmp_path / "ratus.db", tmp_path / "copy.db"
    with (
        serving(tmp_path, "--engine", "sqlite", "--sqlite-path", str(path)) as server,
        Api(server.port) as api,
    ):
        api.insert("t", "1")
        names = ("ratus.db", "ratus.db-wal", "ratus.db-shm", "ratus.db-lock")
        assert modes(tmp_path) == dict.fromkeys(names, "0o600")
        assert cli.main(["backup", "--engine", "sqlite", "--sqlite-path", str(path), str(copy)]) == 0
        assert modes(tmp_path) == dict.fromkeys((*names, "copy.db"), "0o600")


def test_permissions_that_were_given_stay(tmp_path: Path) -> None:
    path = tmp_path / "ratus.db"
    flags = ("--engine", "sqlite", "--sqlite-path", str(path))
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("t", "1")
        api.close()
        server.stop()
    path.chmod(0o640)
    with serving(tmp_path, *flags) as server, Api(server.port) as api:
        api.insert("t", "2")
        assert modes(tmp_path)["ratus.db"] == "0o640"
        assert modes(tmp_path)["ratus.db-wal"] == "0o640"
