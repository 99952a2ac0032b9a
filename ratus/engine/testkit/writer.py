"""A process that writes to an engine and reports each answer, until it is killed.

    python -m ratus.engine.testkit.writer FILE MODULE CLASS FOLDER

The class is derived from `EngineContract` and is in that file, which is loaded under the name of the module.
Each line of output reports one answer: what was done, an id, and a nonce or a record's version (or nothing),
separated by bars.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from importlib.util import module_from_spec, spec_from_file_location
from operator import attrgetter
from pathlib import Path

from ratus.core.errors import RatusError
from ratus.core.records import CommitRecord, RetryPolicy, TaskRecord
from ratus.core.selection import Selection
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.sample import SAMPLE, Sample
from ratus.testing import START


def load(file: str, module_name: str, class_name: str) -> EngineTests:
    """An object of the class, from its file: pytest can have imported that under a name only it knows."""
    spec = spec_from_file_location(module_name, file)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[module_name] = module = module_from_spec(spec)
    spec.loader.exec_module(module)
    kind: type[EngineTests] = attrgetter(class_name)(module)
    return kind()


def report(what: str, task_id: str, nonce: str = "") -> None:
    print(f"{what}|{task_id}|{nonce}", flush=True)


async def write(tests: EngineTests, folder: Path) -> None:
    """Every kind of write, round after round."""
    async with tests.engines(folder) as make:
        engine = make()
        await engine.open(START)
        for number in itertools.count():
            ids = [f"{number}-{part}" for part in ("done", "failed", "deleted", "kept")]
            await engine.insert(
                [TaskRecord(i, "t", START, START, retry=RetryPolicy(max_attempts=1)) for i in ids[:3]], START
            )
            await engine.upsert([TaskRecord(ids[3], "kept", START, START)], START)
            report("inserted", ids[3])
            claims = {}
            for _ in range(3):
                (task,) = await engine.claim(Selection(("t",), START + 1_000_000), START)
                claims[task.id] = task.nonce
                report("claimed", task.id, task.nonce) if task.id != ids[2] else None
            done, failed = await engine.commit(
                [CommitRecord(ids[0], claims[ids[0]]), CommitRecord(ids[1], claims[ids[1]], error="boom")],
                START,
            )
            assert not isinstance(done, RatusError)
            assert not isinstance(failed, RatusError)
            report("completed", ids[0])
            report("failed", ids[1])
            assert await engine.delete_task(ids[2])
            report("deleted", ids[2])
            await engine.set_paused(f"paused {number}", True)
            report("paused", f"paused {number}")
            for name in ("kept", "gone"):
                record_id = f"{number} {name}"
                version = await engine.put_record(SAMPLE, record_id, Sample(number=number), 0)
                if name == "kept":
                    version = await engine.put_record(SAMPLE, record_id, Sample(text="again"), version)
                    report("recorded", record_id, str(version))
                else:
                    await engine.put_record(SAMPLE, record_id, None, version)
                    report("forgotten", record_id)


if __name__ == "__main__":
    asyncio.run(write(load(*sys.argv[1:4]), Path(sys.argv[4])))
