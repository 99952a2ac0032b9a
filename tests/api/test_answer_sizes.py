"""One answer cannot fill the memory, whatever the tasks in it are made of."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.api import serializing
from ratus.core.errors import NotFound
from ratus.core.records import MAX_PAGE_BYTES, RetryPolicy, TaskRecord
from tests.api.clocked import Clocked

LARGE = 3 * 2**20


@pytest.fixture
def app() -> Iterator[Clocked]:
    with Clocked() as running:
        yield running


@pytest.mark.parametrize("member", ["payload", "result", "producer", "consumer", "nonce"])
def test_a_batch_of_commits_shows_tasks_up_to_a_bound(app: Clocked, member: str) -> None:
    app.insert("t", "large", **{member: "x" * LARGE})
    commits: list[dict[str, Any]] = [{"_id": "large", "state": 0} for _ in range(9)]
    commits += [{"_id": "none"}, {"_id": "large", "state": 3}]
    reply = app.request("PATCH", "/topics/t/tasks", {"data": commits})
    items = reply.json["data"]
    assert [item["status"] for item in items] == [200] * 9 + [404, 200]
    shown = ["task" in item for item in items]
    if member == "nonce":  # a commit empties it
        assert shown == [True] * 9 + [False, True]
    else:
        # The task that reaches the bound is still shown.
        assert shown == [True] * 6 + [False] * 5
        assert items[-1] == {"_id": "large", "status": 200}
    # All were carried out.
    assert app.task("large")["state"] == 3


@pytest.mark.parametrize("member", ["payload", "result", "producer", "consumer", "nonce", "error"])
@pytest.mark.parametrize("letter", ["x", "é", "\0", "🧪"])
def test_lists_and_claims_end_early_whatever_is_large(app: Clocked, member: str, letter: str) -> None:
    text = letter * (LARGE // len(letter.encode()) // (6 if letter == "\0" else 1))
    for number in range(9):
        app.insert("t", f"{number}", **{member: text})
    listed = app.request("GET", "/topics/t/tasks").json["data"]
    claimed = app.request("POST", "/topics/t/promises?limit=9").json["data"]
    assert len(listed) == (9 if member == "error" else 5)  # of an error the first 8 KiB are kept
    assert len(claimed) == len(listed)


@pytest.mark.parametrize("letter", ["x", "é", "\0", "🧪"])
@pytest.mark.parametrize("target", ["/topics/t/promises", "/promises"])
def test_a_long_consumer_gets_fewer_tasks_at_a_time(app: Clocked, target: str, letter: str) -> None:
    """It stands in each of them."""
    for number in range(9):
        app.insert("t", f"{number}")
    consumer = letter * (LARGE // len(letter.encode()) // (6 if letter == "\0" else 1))
    body = {"topics": ["t"], "limit": 9, "consumer": consumer}
    assert len(app.request("POST", target, body).json["data"]) == 5
    assert len(app.request("POST", target, body | {"consumer": "x" * 1000}).json["data"]) == 4


TEXTS = st.one_of(
    st.text(), st.builds(str.__mul__, st.characters(exclude_categories=["Cs"]), st.integers(0, 5000))
)


@given(texts=st.lists(TEXTS, min_size=6, max_size=6), value=st.one_of(st.none(), st.binary(max_size=3000)))
def test_the_weight_is_hardly_less_than_what_is_written(texts: list[str], value: bytes | None) -> None:
    now = 1_800_000_000_123_456
    task = TaskRecord(
        texts[0], texts[1], now, now, 3, texts[2], texts[3], texts[4], now, now, now, priority=-9
    )
    task.attempts = 2**31 - 1
    task.retry = RetryPolicy(2**31 - 1, "exponential", 2**53, 2**53, 0.123456789)
    task.error, task.outcome, task.expires = texts[5], "expired", now
    task.payload = task.result = None if value is None else b'"' + value.hex().encode() + b'"'
    written = len(serializing.task(task))
    assert task.weight() >= written - 6 * 1000
    if sum(map(len, texts)) > 1000:
        assert task.weight() >= written - 200


def test_refusals_have_no_weight() -> None:
    ids = [f"{n}" for n in range(3)]
    large = TaskRecord("2", "t", 0, 0, payload=b'"' + b"x" * MAX_PAGE_BYTES + b'"')
    answer = serializing.Committed()
    answer.add(ids[:1], [NotFound()])
    answer.add(ids[1:], [NotFound(), large])
    assert answer.body().count(b'"task"') == 1
    assert [item["_id"] for item in json.loads(answer.body())["data"]] == ids
