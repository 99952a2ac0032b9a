"""A process that writes to an engine and reports each answer, until somebody kills it.

    python -m tests.engines.contract.victim ENGINE FOLDER

A line is what was answered, an id and a nonce, separated by bars.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from pathlib import Path

from ratus.core.errors import RatusError
from ratus.core.records import Claim, CommitRecord, RetryPolicy, TaskRecord
from ratus.testing import START
from tests.engines.contract.engines import ENGINES


def say(what: str, task_id: str, nonce: str = "") -> None:
    print(f"{what}|{task_id}|{nonce}", flush=True)


async def write(name: str, folder: Path) -> None:
    """Every kind of write, round after round."""
    async with ENGINES[name](folder) as make:
        engine = make()
        await engine.open(START)
        for number in itertools.count():
            ids = [f"{number}-{part}" for part in ("done", "failed", "deleted", "kept")]
            await engine.insert(
                [TaskRecord(i, "t", START, START, retry=RetryPolicy(max_attempts=1)) for i in ids[:3]], START
            )
            await engine.upsert([TaskRecord(ids[3], "kept", START, START)], START)
            say("inserted", ids[3])
            claims = {}
            for _ in range(3):
                (task,) = await engine.claim(Claim(("t",), START + 1_000_000), START)
                claims[task.id] = task.nonce
                say("claimed", task.id, task.nonce) if task.id != ids[2] else None
            done, failed = await engine.commit(
                [CommitRecord(ids[0], claims[ids[0]]), CommitRecord(ids[1], claims[ids[1]], error="boom")],
                START,
            )
            assert not isinstance(done, RatusError)
            assert not isinstance(failed, RatusError)
            say("completed", ids[0])
            say("failed", ids[1])
            assert await engine.delete_task(ids[2])
            say("deleted", ids[2])
            await engine.set_paused(f"paused {number}", True)
            say("paused", f"paused {number}")


if __name__ == "__main__":
    asyncio.run(write(sys.argv[1], Path(sys.argv[2])))
