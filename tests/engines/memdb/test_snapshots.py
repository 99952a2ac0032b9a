"""Snapshots: everything comes back, when they are written, trouble is told and overcome."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import re
import shutil
import sys
import time
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ratus_engines.memdb.engine import MemdbEngine
from ratus_engines.memdb.snapshot import FORMAT, FRAME, FRAME_BYTES

from ratus.core.errors import StartupError
from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.core.selection import Selection
from ratus.core.times import MAX_TIME, MIN_TIME
from ratus.engine.testkit.sample import SAMPLE, Sample
from ratus.testing import START
from tests.engines.memdb.support import MINUTE, files, kill_all, opened, small, task, tasks_of, version

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).resolve().parents[3]


# ---- there and back ----------------------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
TIME = st.integers(MIN_TIME, MAX_TIME)
JSON = st.none() | st.binary(max_size=20)
POLICY = st.builds(
    RetryPolicy,
    max_attempts=st.none() | st.integers(0, 2**31),
    backoff=st.none() | st.sampled_from(["constant", "linear", "exponential"]),
    delay=st.none() | st.integers(0, MAX_TIME),
    max_delay=st.none() | st.integers(0, MAX_TIME),
    jitter=st.none() | st.floats(0, 1),
)
TASK = st.builds(
    TaskRecord,
    id=TEXT,
    topic=TEXT,
    produced=TIME,
    scheduled=TIME,
    state=st.integers(0, 3),
    nonce=TEXT,
    producer=TEXT,
    consumer=TEXT,
    consumed=st.none() | TIME,
    deadline=st.none() | TIME,
    committed=st.none() | TIME,
    payload=JSON,
    priority=st.integers(-9, 9),
    attempts=st.integers(0, 2**40),
    retry=st.none() | POLICY,
    error=TEXT,
    result=JSON,
    outcome=st.sampled_from(["", "failed", "expired"]),
    expires=st.none() | TIME,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(tasks=st.lists(TASK, max_size=8, unique_by=lambda task: task.id), paused=st.sets(TEXT, max_size=3))
async def test_everything_comes_back(path: Path, tasks: list[TaskRecord], paused: set[str]) -> None:
    path.unlink(missing_ok=True)
    engine = await opened(path)
    await engine.insert(tasks, START)
    for topic in paused:
        await engine.set_paused(topic, True)
    topics = await engine.list_topics(100, 0)
    await engine.close(START)
    again = await opened(path)
    for before in tasks:
        found = await again.get(before.id)
        assert found == before
        assert found is not before
    assert await again.list_topics(100, 0) == topics
    for topic in topics:
        assert await again.get_topic(topic, START) == await engine_info(engine, topic)
        assert await tasks_of(again, topic) == [task for task in tasks if task.topic == topic]


async def engine_info(engine: MemdbEngine, topic: str) -> object:
    """What a closed engine knew of a topic."""
    engine._open = True
    try:
        return await engine.get_topic(topic, START)
    finally:
        engine._open = False


async def test_more_tasks_than_fit_a_frame(path: Path) -> None:
    engine = await opened(path)
    ids = [str(number) for number in range(3 * FRAME + 1)]
    await engine.insert([task(name) for name in ids], START)
    await engine.delete_task("0")
    await engine.close(START)
    again = await opened(path)
    assert [found.id for found in await tasks_of(again)] == ids[1:]
    assert len(await again.claim(Selection(("t",), START + MINUTE, limit=len(ids)), START)) == len(ids) - 1


async def test_numbers_of_deleted_tasks_are_not_given_again(path: Path) -> None:
    """Else a cursor that was given before the restart would stand before tasks that came after it."""
    engine = await opened(path)
    await engine.insert([task("1"), task("2")], START)
    last = (await tasks_of(engine))[-1].sequence
    await engine.delete_task("2")
    await engine.close(START)
    again = await opened(path)
    await again.insert([task("3")], START)
    assert (await tasks_of(again))[-1].sequence > last


async def test_without_a_file_it_starts_empty(path: Path) -> None:
    engine = await opened(path)
    assert await engine.list_topics(10, 0) == []
    await engine.close(START)
    assert path.exists()


async def test_without_a_path_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    engine = await opened()
    await engine.insert([task("1")], START)
    await engine.maintain(START + 100 * MINUTE)
    await engine.close(START)
    assert files(tmp_path) == []


async def test_the_rest_of_a_save_that_was_broken_off_does_no_harm(path: Path) -> None:
    await small(path)
    leftover = path.with_name(path.name + ".partial")
    leftover.write_bytes(b"half a snapsh")
    engine = await opened(path)
    assert len(await tasks_of(engine)) == 3
    await engine.close(START)
    assert not leftover.exists()
    assert len(await tasks_of(await opened(path))) == 3


# ---- when it is written ------------------------------------------------------------------------------


async def test_it_is_written_once_an_interval_and_only_when_something_changed(path: Path) -> None:
    engine = await opened(path, interval=5 * MINUTE)
    await engine.maintain(START + 100 * MINUTE)
    assert not path.exists()
    await engine.insert([task("1")], START)
    await engine.maintain(START + 5 * MINUTE - 1)
    assert not path.exists()
    await engine.maintain(START + 5 * MINUTE)
    first = version(path)
    await engine.maintain(START + 100 * MINUTE)
    assert version(path) == first
    await engine.claim(Selection(("t",), START + MINUTE), START)
    await engine.maintain(START + 10 * MINUTE - 1)
    assert version(path) == first
    await engine.maintain(START + 10 * MINUTE)
    assert version(path) != first


CHANGES = {
    "insert": lambda engine: engine.insert([task("2")], START),
    "upsert": lambda engine: engine.upsert([task("1")], START),
    "commit": lambda engine: engine.commit([CommitRecord("1")], START),
    "extend": lambda engine: engine.extend("active", "", START + 2 * MINUTE, START),
    "release": lambda engine: engine.release("active", START),
    "delete": lambda engine: engine.delete_task("1"),
    "pause": lambda engine: engine.set_paused("t", True),
    "resume": lambda engine: engine.set_paused("paused", False),
    "recover": lambda engine: engine.recover(START + MINUTE),
}


@pytest.mark.parametrize("name", CHANGES)
async def test_every_kind_of_change_is_one(path: Path, name: str) -> None:
    engine = await opened(path, interval=1)
    await engine.insert([task("1"), task("active", state=ACTIVE, deadline=START + MINUTE)], START)
    await engine.set_paused("paused", True)
    await engine.maintain(START + MINUTE)
    first = version(path)
    await CHANGES[name](engine)
    await engine.maintain(START + 2 * MINUTE)
    assert version(path) != first


async def test_it_is_written_when_the_clock_was_set_back(path: Path) -> None:
    engine = await opened(path, interval=5 * MINUTE)
    await engine.insert([task("1")], START)
    await engine.maintain(START - MINUTE)
    assert path.exists()


async def test_it_is_written_in_time_when_the_clock_was_set_back_a_little(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = await opened(path, interval=5 * MINUTE)
    await engine.insert([task("1")], START)
    await engine.maintain(START + MINUTE)
    assert not path.exists()
    later = time.monotonic() + 5 * 60
    monkeypatch.setattr("ratus_engines.memdb.snapshot.time.monotonic", lambda: later)
    await engine.maintain(START + MINUTE)
    assert path.exists()


async def test_closing_writes_whatever_the_interval_is(path: Path) -> None:
    engine = await opened(path)
    await engine.insert([task("1")], START)
    await engine.close(START)
    assert len(await tasks_of(await opened(path))) == 1


# ---- trouble -----------------------------------------------------------------------------------------


def fill_disk(path: Path) -> None:
    """The next attempt to write ends on a device that is always full."""
    path.with_name(path.name + ".partial").symlink_to("/dev/full")


async def test_a_full_disk_is_told_and_overcome(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engine = await opened(path, interval=5 * MINUTE)
    await engine.insert([task("1")], START)
    await engine.maintain(START + 5 * MINUTE)
    before = path.read_bytes()
    await engine.insert([task(str(number), payload=b"1" * 100) for number in range(2, 2000)], START)

    fill_disk(path)
    await engine.maintain(START + 10 * MINUTE)
    health = await engine.health()
    assert health.ready is True
    assert str(path) in health.detail
    assert os.strerror(errno.ENOSPC) in health.detail
    assert path.read_bytes() == before
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert await engine.claim(Selection(("t",), START + MINUTE), START)

    fill_disk(path)
    await engine.maintain(START + 10 * MINUTE + 1)  # tried again with every round, not once an interval
    assert len(caplog.records) == 2

    await engine.maintain(START + 10 * MINUTE + 2)
    assert (await engine.health()).detail == ""
    assert path.read_bytes() != before
    assert len(await tasks_of(await opened(path))) == 1999


async def test_a_folder_that_goes_away_is_told_and_overcome(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    folder.mkdir()
    engine = await opened(folder / "ratus.snapshot", interval=1)
    await engine.insert([task("1")], START)
    shutil.rmtree(folder)
    await engine.maintain(START + MINUTE)
    assert (await engine.health()).detail
    folder.mkdir()
    await engine.maintain(START + 2 * MINUTE)
    assert (await engine.health()).detail == ""
    assert len(await tasks_of(await opened(folder / "ratus.snapshot"))) == 1


async def test_a_folder_that_cannot_be_written_is_told_from_the_start(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await small(path)
    monkeypatch.setattr(os, "access", lambda *arguments: False)  # root may write anywhere
    engine = await opened(path, interval=5 * MINUTE)
    health = await engine.health()
    assert health.ready is True
    assert "not writable" in health.detail
    await engine.insert([task("new")], START)
    await engine.maintain(START + 1)  # tried with the next round, whatever the interval is
    assert (await engine.health()).detail == ""


async def test_closing_raises_when_something_would_be_lost(path: Path) -> None:
    before = await small(path)
    engine = await opened(path)
    await engine.insert([task("new")], START)
    fill_disk(path)
    with pytest.raises(OSError, match="fail"):
        await engine.close(START)
    assert path.read_bytes() == before


@pytest.mark.parametrize("broken", ["fsync", "replace"])
async def test_a_save_that_breaks_off_leaves_the_old_snapshot(
    path: Path, broken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = await small(path)
    engine = await opened(path, interval=1)
    await engine.insert([task("new")], START)

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with monkeypatch.context() as patch:
        patch.setattr(*((os, "fsync", fail) if broken == "fsync" else (Path, "replace", fail)))
        await engine.maintain(START + MINUTE)
    assert os.strerror(errno.EIO) in (await engine.health()).detail
    assert path.read_bytes() == before
    assert files(path.parent) == [path.name]


async def test_a_save_can_be_cancelled_at_any_moment(path: Path) -> None:
    before = await small(path)
    engine = await opened(path, interval=1)
    await engine.insert([task(str(number)) for number in range(10, 4 * FRAME)], START)
    for turns in range(40):
        work = asyncio.ensure_future(engine.maintain(START + MINUTE))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        work.cancel()
        await asyncio.wait([work])
        if not work.cancelled():
            break
        assert len(await tasks_of(await opened(path))) in (3, 3 + 4 * FRAME - 10)
    assert files(path.parent) == [path.name]
    await engine.insert([task("one more")], START)
    await engine.maintain(START + 2 * MINUTE)
    assert path.read_bytes() != before
    assert (await engine.health()).detail == ""


async def test_a_crash_in_the_middle_of_a_save_costs_no_snapshot(path: Path) -> None:
    """A process that does nothing but save is killed at a random moment, again and again."""
    program = (
        "import asyncio, itertools, sys\n"
        "from ratus_engines.memdb.engine import MemdbEngine\n"
        "from ratus.core.records import TaskRecord\n"
        "async def main():\n"
        "    engine = MemdbEngine(snapshot_path=sys.argv[1], snapshot_interval=1)\n"
        "    await engine.open(0)\n"
        "    for number in itertools.count(1):\n"
        "        await engine.upsert([TaskRecord(str(n), 't', 0, number) for n in range(2000)], 0)\n"
        "        await engine.maintain(number)\n"
        "        print(number, flush=True)\n"
        "asyncio.run(main())\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'engines'}"}
    draw = Random(1)
    for _ in range(3):
        kill_all()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, str(path), env=environment, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        await process.stdout.readline()
        await asyncio.sleep(draw.random() / 20)
        process.kill()
        saved = int(((await process.stdout.read()).split() or [b"1"])[-1])
        await process.wait()
        tasks = await tasks_of(await opened(path))
        assert len(tasks) == 2000
        assert {task.scheduled for task in tasks} <= {saved, saved + 1}


# ---- while requests go on ----------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
async def test_a_task_that_lives_throughout_a_save_is_in_it_once(path: Path, seed: int) -> None:
    draw = Random(seed)
    engine = await opened(path, interval=1)
    count = 8 * FRAME
    await engine.insert([task(str(number), f"topic {number % 3}") for number in range(count)], START)
    alive = {str(number) for number in range(count)}
    for name in draw.sample(sorted(alive), 50):
        await engine.delete_task(name)
        alive.discard(name)
    throughout = set(alive)
    work = asyncio.ensure_future(engine.maintain(START + MINUTE))
    await asyncio.sleep(0)
    turns = 0
    while not work.done():
        turns += 1
        await asyncio.sleep(0)
        if turns > 100:  # syncing to the disk may take long
            continue
        for name in draw.sample(sorted(alive), 5):
            what = draw.randrange(5)
            if what == 0:
                await engine.delete_task(name)
                alive.discard(name)
                throughout.discard(name)
            elif what == 1:
                await engine.commit([CommitRecord(name, topic=f"topic {draw.randrange(5)}", state=0)], START)
            elif what == 2:
                await engine.upsert([task(name, "topic 9", state=COMPLETED)], START)
            elif what == 3:
                await engine.claim(Selection(("topic 0", "topic 1"), START + MINUTE, limit=3), START)
            else:
                await engine.insert([task(f"new {turns} {name}")], START)
    await work
    assert turns > count // FRAME

    again = await opened(path)
    found: list[str] = []
    for topic in await again.list_topics(100, 0):
        tasks = await tasks_of(again, topic)
        assert all(task.topic == topic for task in tasks)
        found += [task.id for task in tasks]
        info = await again.get_topic(topic, START)
        assert info is not None
        assert info.count == len(tasks)
    assert len(found) == len(set(found))
    assert throughout <= set(found)
    assert set(found) <= {str(number) for number in range(count)}
    for name in throughout:
        assert (await again.get(name)) is not None


async def test_large_tasks_are_written_in_small_parts(path: Path) -> None:
    """Else the loop would stand still while hundreds of megabytes are encoded."""
    engine = await opened(path)
    sizes = [2_000_000, *[300_000] * 20, *[10] * 20, 2_000_000]
    payloads = [b'"' + b"x" * size + b'"' for size in sizes]
    await engine.insert([task(str(n), payload=payload) for n, payload in enumerate(payloads)], START)
    await engine.close(START)
    assert [found.payload for found in await tasks_of(await opened(path))] == payloads
    data, at = path.read_bytes(), len(FORMAT)
    parts: list[list[int]] = []
    for _ in range(3):  # header and records, then lanes, and then tasks
        parts.append([])
        while size := int.from_bytes(data[at : at + 4], "big"):
            parts[-1].append(size)
            at += 4 + size
        at += 4
    tasks = parts[2]
    assert max(tasks) <= max(2_000_000, FRAME_BYTES) + 1000
    assert len(tasks) < 15


async def test_what_happened_during_a_save_is_saved_with_the_next(path: Path) -> None:
    engine = await opened(path, interval=1)
    await engine.insert([task(str(number)) for number in range(2 * FRAME)], START)
    work = asyncio.ensure_future(engine.maintain(START + MINUTE))
    await asyncio.sleep(0)
    await engine.insert([task("new", state=PENDING)], START)
    await work
    first = version(path)
    await engine.maintain(START + 2 * MINUTE)
    assert version(path) != first
    assert "new" in [found.id for found in await tasks_of(await opened(path))]


async def test_two_servers_cannot_keep_their_snapshots_in_one_file(path: Path) -> None:
    first = await opened(path)
    await first.insert([task("1")], START)
    second = MemdbEngine(snapshot_path=str(path))
    with pytest.raises(StartupError, match=f"another server keeps its snapshots in {re.escape(str(path))}"):
        await second.open(START)
    await first.close(START)
    await second.open(START)
    assert [found.id for found in await tasks_of(second)] == ["1"]
    await second.close(START)


async def test_what_a_link_points_to_is_replaced_and_not_the_link(path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(path)
    engine = await opened(link)
    await engine.insert([task("1")], START)
    await engine.close(START)
    assert link.is_symlink()
    assert [found.id for found in await tasks_of(await opened(path))] == ["1"]


async def test_large_records_are_written_in_small_parts(path: Path) -> None:
    engine = await opened(path)
    text = "x" * 60_000
    for number in range(100):
        await engine.put_record(SAMPLE, str(number), Sample(text=text, number=number))
    await engine.close(START)
    data, at, frames = path.read_bytes(), len(FORMAT), []
    while size := int.from_bytes(data[at : at + 4], "big"):
        frames.append(size)
        at += 4 + size
    assert max(frames) <= FRAME_BYTES + 100_000
    again = await opened(path)
    found = await again.list_records(SAMPLE, "", 1000)
    assert sorted(record.members.number for record in found) == list(range(100))
    assert {record.members.text for record in found} == {text}


async def test_records_that_are_put_during_a_save(path: Path) -> None:
    """A version that is in the file and larger than the header's number is not given again."""
    engine = await opened(path, interval=1)
    for number in range(3 * FRAME):
        await engine.put_record(SAMPLE, f"{number:04}", Sample())
    work = asyncio.ensure_future(engine.maintain(START + MINUTE))
    await asyncio.sleep(0)
    given = await engine.put_record(SAMPLE, f"{3 * FRAME - 1:04}", Sample(number=1))
    await engine.put_record(SAMPLE, "0000", None)
    await work
    again = await opened(path)
    found = await again.list_records(SAMPLE, "", 10_000)
    assert {f"{number:04}" for number in range(1, 3 * FRAME)} <= {record.id for record in found}
    assert found[-1].version == given
    assert await again.put_record(SAMPLE, "new", Sample(), 0) > given


async def test_nothing_new_is_written_where_no_record_was_there(path: Path) -> None:
    engine = await opened(path, interval=1)
    before = engine.changes
    assert await engine.put_record(SAMPLE, "1", None) == 0
    assert engine.changes == before
