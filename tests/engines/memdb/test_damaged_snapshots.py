"""A snapshot is loaded whole or not at all: whatever is wrong with it, the engine refuses and names it."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path
from random import Random

import msgspec
import pytest
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.memdb.snapshot import FORMAT, FRAME, MEMBERS, Header

from ratus.core.errors import StartupError
from ratus.core.records import RetryPolicy, TaskRecord
from ratus.testing import START
from tests.engines.memdb.support import opened, small, task, tasks_of

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]


async def refused(path: Path) -> str:
    """Why an engine does not start on this file."""
    engine = MemdbEngine(snapshot_path=str(path))
    with pytest.raises(StartupError) as caught:
        await engine.open(START)
    assert (await engine.health()).ready is False
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


async def test_a_file_cut_at_any_byte_is_refused(path: Path) -> None:
    whole = await small(path)
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        await refused(path)
    path.write_bytes(whole)
    assert len(await tasks_of(await opened(path))) == 3


async def test_a_single_flipped_bit_is_refused(path: Path) -> None:
    whole = await small(path)
    for bit in range(0, len(whole) * 8, 3):  # every place in a byte comes in turn
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        await refused(path)


async def test_longer_files_cut_or_changed_anywhere_are_refused(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([task(str(number), payload=b"[1]") for number in range(3 * FRAME)], START)
    await engine.close(START)
    whole = path.read_bytes()
    draw = Random(1)
    for _ in range(100):
        cut, at = draw.randrange(len(whole)), draw.randrange(len(whole))
        path.write_bytes(whole[:cut])
        await refused(path)
        path.write_bytes(whole[:at] + bytes([whole[at] ^ draw.randrange(1, 256)]) + whole[at + 1 :])
        await refused(path)
        path.write_bytes(whole[:cut] + whole[cut + 1 :])
        await refused(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"\0", b"ratus memdb snapshot 9\n", b"SQLite format 3\0", FORMAT, FORMAT + b"\xff" * 100, b"{}"],
)
async def test_another_file_is_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    await refused(path)
    assert path.read_bytes() == data


async def test_bytes_after_the_end_are_refused(path: Path) -> None:
    path.write_bytes(await small(path) + b"\0")
    await refused(path)


async def test_a_refusal_costs_no_memory(path: Path) -> None:
    """A length that was made up must not be believed: it would ask for gigabytes."""
    program = (
        "import asyncio, resource, sys\n"
        "from ratus_engines.memdb.engine import MemdbEngine\n"
        "limit = 1 << 30\n"
        "resource.setrlimit(resource.RLIMIT_AS, (limit, limit))\n"
        "asyncio.run(MemdbEngine(snapshot_path=sys.argv[1]).open(0))\n"
    )
    path.write_bytes(FORMAT + (2**31 - 1).to_bytes(4, "big") + b"\0" * 100)
    done = await asyncio.to_thread(run, program, str(path))
    assert re.search(rf"StartupError: .*{re.escape(str(path))}", done.stderr), done.stderr


def run(program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def write_by_hand(
    path: Path, members: list[str], rows: list[list[object]], count: int | None = None, form: bytes = FORMAT
) -> None:
    """A snapshot as another version of the program would have written it."""
    parts = [form]
    before = [Header(members, len(rows), ["gone", "t"]), None]
    if form == FORMAT:
        before.append(None)
    for value in (*before, rows):
        data = b"" if value is None else msgspec.msgpack.encode(value)  # ends the records, and the lanes
        parts += [len(data).to_bytes(4, "big"), data]
    parts += [bytes(4), (len(rows) if count is None else count).to_bytes(8, "big")]
    whole = b"".join(parts)
    path.write_bytes(whole + hashlib.blake2b(whole, digest_size=32).digest())


@pytest.mark.parametrize("form", [FORMAT, b"ratus memdb snapshot 2\n"])
async def test_an_older_version_knew_fewer_members_and_no_lanes(path: Path, form: bytes) -> None:
    rows: list[list[object]] = [["1", "t", 1, 2, 3, b"[1]", {"max_attempts": 4}]]
    members = ["id", "topic", "produced", "scheduled", "sequence", "payload", "retry"]
    write_by_hand(path, members, rows, form=form)
    (found,) = await tasks_of(await opened(path))
    expected = TaskRecord("1", "t", 1, 2, sequence=3, payload=b"[1]", retry=RetryPolicy(max_attempts=4))
    assert found == expected


async def test_a_topic_whose_tasks_went_while_it_was_written_does_not_come_back(path: Path) -> None:
    write_by_hand(path, ["id", "topic", "produced", "scheduled", "sequence"], [["1", "t", 1, 2, 1]])
    assert await (await opened(path)).list_topics(10, 0) == ["t"]


async def test_a_newer_version_knew_more_rare_members(path: Path) -> None:
    rows: list[list[object]] = [["1", "t", 1, 2, 3, {"trace": b"{}", "magic": 1}]]
    write_by_hand(path, ["id", "topic", "produced", "scheduled", "sequence", "rare"], rows)
    with pytest.raises(StartupError, match="a newer version wrote it, with magic"):
        await opened(path)


async def test_a_newer_version_knew_more_members(path: Path) -> None:
    write_by_hand(path, [*MEMBERS, "colour"], [])
    assert "newer" in await refused(path)


async def test_a_row_that_lacks_members_is_refused(path: Path) -> None:
    write_by_hand(path, ["id", "topic", "produced", "scheduled", "sequence"], [["1", "t"]])
    await refused(path)


async def test_missing_tasks_are_noticed(path: Path) -> None:
    write_by_hand(path, ["id", "topic", "produced", "scheduled", "sequence"], [["1", "t", 1, 2, 1]], count=2)
    assert "missing" in await refused(path)


async def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert "create it" in await refused(tmp_path / "missing" / "ratus.snapshot")


async def test_a_path_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    await refused(tmp_path)


async def test_a_file_that_cannot_be_read_is_refused(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    await small(path)

    def fail(*arguments: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fail)  # root may read anything
        assert os.strerror(errno.EACCES) in await refused(path)
