"""Batches of claims among other servers that are quicker."""

from __future__ import annotations

import pytest
from ratus_engines.mongodb.steps import Steps

from ratus.records import Claim, TaskRecord
from tests.engines.contract.desk import HOUR, Desk

pytestmark = pytest.mark.anyio


async def test_a_batch_that_is_outrun_again_and_again_gets_a_task_all_the_same(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries = []

    async def too_late(*arguments: object) -> dict[str, TaskRecord]:
        tries.append(arguments)
        return {}

    await desk.add("1", "2", "3")
    claim = Claim(("t",), desk.now + HOUR, "consumer", 3)
    with monkeypatch.context() as patch:
        patch.setattr(Steps, "several", too_late)
        claimed = await desk.engine.claim(claim, desk.now)
    assert tries
    assert [task.id for task in claimed] == ["1"]
    assert [task.id for task in await desk.engine.claim(claim, desk.now)] == ["2", "3"]
