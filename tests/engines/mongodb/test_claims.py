"""Claims of several tasks: together, and among other servers that are quicker."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.errors import DocumentTooLarge, OperationFailure
from ratus_engines.mongodb.claim_statements import Aim, ClaimStatements
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import PayloadTooLarge
from ratus.core.records import ACTIVE, COMPLETED, TaskRecord
from ratus.core.selection import Selection
from ratus.engine.testkit.harness import HOUR, Harness

pytestmark = pytest.mark.anyio


async def test_a_batch_that_is_outrun_again_and_again_gets_a_task_all_the_same(
    harness: Harness, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    async def too_late(*arguments: object) -> dict[str, TaskRecord]:
        tries.append(arguments)
        return {}

    await harness.add("1", "2", "3")
    selection = Selection(("t",), harness.now + HOUR, "consumer", 3)
    with monkeypatch.context() as patch:
        patch.setattr(ClaimStatements, "several", too_late)
        claimed = await harness.engine.claim(selection, harness.now)
    assert tries
    assert [task.id for task in claimed] == ["1"]
    assert [task.id for task in await harness.engine.claim(selection, harness.now)] == ["2", "3"]


async def test_tasks_are_claimed_together_each_for_its_own_consumer(harness: Harness) -> None:
    """In one update, whatever the tasks and the claims hold."""
    assert isinstance(harness.engine, MongodbEngine)
    steps, tasks = harness.engine._claims._steps, harness.engine._deployment.tasks
    odd = "$topic"  # a text that an expression would take for a member
    await harness.add("1", "2", odd, payload=b'{"$state": "$nonce", "list": [1, 2.0]}', consumer="before")
    await harness.add("done", state=COMPLETED)
    await harness.add("later", scheduled=harness.now + HOUR)
    await harness.add("elsewhere", topic="other")
    await tasks.update_one({"_id": "2"}, {"$unset": {"attempts": "", "consumer": ""}})  # as Go writes it
    await tasks.update_one({"_id": odd}, {"$set": {"attempts": 7, "implied": True}})
    claims = {
        "1": Selection(("t",), harness.now + HOUR, "$state"),
        "2": Selection(("t",), harness.now + 2 * HOUR, "second"),
        odd: Selection(("t",), harness.now + 3 * HOUR),
        **{
            name: Selection(("t",), harness.now + HOUR, "nobody")
            for name in ("done", "later", "elsewhere", "none")
        },
    }
    before = {name: await harness.engine.get(name) for name in claims}
    claimed = await steps.several(
        "t", [Aim(name, selection, harness.now) for name, selection in claims.items()]
    )
    assert claimed.keys() == {"1", "2", odd}
    assert len({task.nonce for task in claimed.values()}) == 3
    for name, selection in claims.items():
        task, was = await harness.engine.get(name), before[name]
        if name not in claimed:
            assert task == was
            continue
        assert task is not None
        assert was is not None
        assert task == claimed[name]
        assert (task.state, task.consumer, task.deadline) == (
            ACTIVE,
            selection.consumer,
            selection.deadline_at(harness.now),
        )
        assert (task.consumed, task.attempts, task.implied) == (harness.now, was.attempts + 1, False)
        for member in ("id", "topic", "payload", "produced", "scheduled", "producer", "sequence", "priority"):
            assert getattr(task, member) == getattr(was, member), member
    stored = await tasks.find_one({"_id": odd})
    assert stored is not None
    assert "consumer" not in stored
    assert "implied" not in stored


@pytest.mark.parametrize(
    "refusal",
    [
        OperationFailure("Resulting document after update is larger than 16777216", 17419),
        DocumentTooLarge("'update' command document too large"),  # the driver sees it before it is sent
    ],
    ids=["server", "driver"],
)
async def test_a_claim_that_cannot_be_made_does_not_hurt_those_who_came_with_it(
    harness: Harness, monkeypatch: pytest.MonkeyPatch, refusal: Exception
) -> None:
    """A task near the limit of 16 MiB, say, and one whose name is too long to be written into it."""
    one = ClaimStatements.one

    async def several(*arguments: object) -> dict[str, TaskRecord]:
        raise refusal

    async def claim_one(
        self: ClaimStatements, condition: Any, selection: Selection, now: int
    ) -> TaskRecord | None:
        if selection.consumer == "2":
            raise refusal
        return await one(self, condition, selection, now)

    monkeypatch.setattr(ClaimStatements, "several", several)
    monkeypatch.setattr(ClaimStatements, "one", claim_one)
    await harness.add(*map(str, range(10)))
    answers = await asyncio.gather(
        *(
            harness.engine.claim(Selection(("t",), harness.now + HOUR, str(number)), harness.now)
            for number in range(10)
        ),
        return_exceptions=True,
    )
    assert isinstance(answers.pop(2), PayloadTooLarge)
    claimed = [task.id for answer in answers if not isinstance(answer, BaseException) for task in answer]
    assert len(set(claimed)) == 9


async def test_claims_that_do_not_fit_into_one_update(harness: Harness) -> None:
    """A consumer may be as long as a body; whoever claims at the same moment must not suffer for it."""
    assert isinstance(harness.engine, MongodbEngine)
    ids = [f"{number}-{'é' * 400}" for number in range(12)]
    await harness.add(*ids)
    consumer = "x" * 4_000_000
    aims = [
        Aim(name, Selection(("t",), harness.now + HOUR, consumer if number % 2 else ""), harness.now)
        for number, name in enumerate(ids)
    ]
    claimed = await harness.engine._claims._steps.several("t", aims)
    assert {name: len(task.consumer) for name, task in claimed.items()} == {
        name: len(consumer) if number % 2 else 0 for number, name in enumerate(ids)
    }
