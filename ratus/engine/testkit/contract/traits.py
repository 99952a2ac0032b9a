"""What an engine says it is, it is."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import TypeVar

import pytest

from ratus.core.records import ACTIVE, COMPLETED, PENDING, CommitRecord
from ratus.core.selection import Selection
from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.harness import HOUR, Harness

Result = TypeVar("Result")


def at_once(operation: Coroutine[object, None, Result]) -> Result:
    """The result of an operation that waits for nothing. Raises `AssertionError` where it does wait."""
    try:
        awaited = operation.send(None)
    except StopIteration as done:
        result: Result = done.value
        return result
    operation.close()
    raise AssertionError(f"it waits for {awaited!r}")


class TraitsTests(EngineTests):
    """What an engine says it is, it is."""

    async def test_an_immediate_engine_waits_for_nothing(self, harness: Harness) -> None:
        """Servers run its operations without an asyncio task, which an operation that waits may need."""
        engine = harness.engine
        if not engine.traits.immediate:
            pytest.skip("this engine does not promise that")
        selection = Selection(("t",), harness.now + HOUR, "consumer")
        assert at_once(engine.insert([harness.task("1"), harness.task("2")], harness.now)) == [True, True]
        assert at_once(engine.upsert([harness.task("2")], harness.now)) == [False]
        (task,) = at_once(engine.claim(selection, harness.now))
        assert at_once(engine.extend("1", task.nonce, harness.now + 2 * HOUR, harness.now)).state == ACTIVE
        (committed,) = at_once(engine.commit([CommitRecord("1", task.nonce)], harness.now))
        assert getattr(committed, "state", None) == COMPLETED
        assert at_once(engine.claim_task("2", selection, harness.now, force=False)).state == ACTIVE
        assert at_once(engine.release("2", harness.now))
        found = at_once(engine.get("2"))
        assert found is not None
        assert found.state == PENDING
        assert at_once(engine.delete_task("2"))
        assert at_once(engine.claim(selection, harness.now)) == []
