"""One commit of a batch that cannot be stored is refused by itself; the others are applied and answered."""

from __future__ import annotations

from typing import Any

import pytest

from ratus.core.errors import BadRequest, PayloadTooLarge, RatusError
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, CommitRecord, TaskRecord
from ratus.engine.testkit.harness import HOUR, Harness

pytestmark = pytest.mark.anyio

NONCE = "N" * 16
HALF = b'"' + b"x" * (9 * 1024 * 1024) + b'"'

KINDS: dict[str, dict[str, Any]] = {
    "completed": {"state": COMPLETED},
    "archived": {"state": ARCHIVED},
    "given back": {"state": PENDING},
    "kept active": {"state": ACTIVE},
    "failed": {"error": "boom"},
    "failed and pending": {"state": PENDING, "error": "boom"},
}

# The database sees that the task would grow too large, the driver sees it, the engine refuses the value.
VALUES: dict[str, tuple[bytes, type[RatusError]]] = {
    "grows too large": (HALF, PayloadTooLarge),
    "is too large by itself": (b'"' + b"x" * (17 * 1024 * 1024) + b'"', PayloadTooLarge),
    "a longer integer": (b"[9223372036854775808]", BadRequest),
}


@pytest.mark.parametrize(
    ("kind", "value"),
    [*((kind, "grows too large") for kind in KINDS), *(("completed", value) for value in list(VALUES)[1:])],
)
async def test_one_commit_of_a_batch_cannot_be_stored(harness: Harness, kind: str, value: str) -> None:
    result, refusal = VALUES[value]
    active: dict[str, Any] = {"state": ACTIVE, "nonce": NONCE, "attempts": 1, "deadline": harness.now + HOUR}
    await harness.insert(*(harness.task(n, **active, payload=HALF if n == "2" else None) for n in "123"))
    commits = [CommitRecord(n, NONCE, **KINDS[kind], result=result if n == "2" else b"1") for n in "123"]
    first, second, third = await harness.engine.commit(commits, harness.now)
    assert isinstance(second, refusal)
    for answer in (first, third):
        assert isinstance(answer, TaskRecord)
        assert (answer.nonce, answer.result) == ("", b"1")
        assert answer.state == KINDS[kind].get("state", PENDING)
    assert [(await harness.get(n)).nonce for n in "123"] == ["", NONCE, ""]
    # The consumer that was refused can still end its claim.
    (answer,) = await harness.engine.commit([CommitRecord("2", NONCE, **KINDS[kind])], harness.now)
    assert isinstance(answer, TaskRecord)


@pytest.mark.parametrize("value", VALUES)
async def test_commits_without_a_nonce_are_refused_one_by_one_too(harness: Harness, value: str) -> None:
    result, refusal = VALUES[value]
    await harness.insert(*(harness.task(n, payload=HALF if n == "2" else None) for n in "123"))
    commits = [CommitRecord(n, state=COMPLETED, result=result if n == "2" else b"1") for n in "1232"]
    answers = await harness.engine.commit(commits, harness.now)
    assert [isinstance(answer, TaskRecord) for answer in answers] == [True, False, True, False]
    assert all(isinstance(answers[n], refusal) for n in (1, 3))
