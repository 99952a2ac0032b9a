"""How many tasks a worker claims ahead, and how batches of commits are made and read: the pure parts."""

from __future__ import annotations

import time
from collections import deque

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.calls.claims import Claimed, CommitStatus
from ratus.calls.delivery import BaseDelivery
from ratus.core.errors import TransportError
from ratus.worker.commits import FULL, FULL_BYTES, Outcome, sort_statuses, take_batch
from ratus.worker.keeping import due_for_extension, is_overdue, put_off, tick_seconds
from ratus.worker.pace import AHEAD_SECONDS, BATCH, PATIENCE_SECONDS, Pace


def paced(seconds: float, *, concurrency: int = 4, prefetch: int = 1_000) -> Pace:
    pace = Pace(concurrency, prefetch)
    for _ in range(100):
        pace.record(seconds)
    return pace


def test_at_first_only_what_is_begun_at_once_is_claimed() -> None:
    pace = Pace(4, 1_000)
    assert pace.ahead == 0
    assert pace.wanted(running=0, buffered=0) == 4
    assert pace.wanted(running=3, buffered=0) == 1
    assert pace.wanted(running=4, buffered=0) == 0


@pytest.mark.parametrize(
    ("seconds", "ahead"), [(10.0, 0), (1.0, 0), (0.4, 1), (0.1, 4), (0.01, 40), (0.0001, 1_000), (0.0, 1_000)]
)
def test_quick_handlers_are_claimed_for_ahead(seconds: float, ahead: int) -> None:
    assert paced(seconds).ahead == pytest.approx(ahead, abs=1)


def test_nothing_is_claimed_ahead_where_it_is_not_wanted() -> None:
    assert paced(0.0, prefetch=0).ahead == 0


def test_half_of_what_is_held_ahead_is_used_up_before_more_is_claimed() -> None:
    pace = paced(0.01)
    assert pace.ahead == 40
    assert pace.wanted(running=4, buffered=40) == 0
    assert pace.wanted(running=4, buffered=21) == 0
    assert pace.wanted(running=4, buffered=20) == 20
    assert pace.wanted(running=0, buffered=0) == 44


def test_a_change_of_pace_is_noticed() -> None:
    pace = paced(0.001)
    for _ in range(50):
        pace.record(1.0)
    assert pace.ahead == 0


def test_a_stall_ends_claiming_ahead_until_handlers_are_quick_again() -> None:
    pace = paced(0.0)
    pace.stall()
    assert pace.ahead == 0
    for _ in range(100):
        pace.record(0.0)
    assert pace.ahead > 100


@given(
    concurrency=st.integers(1, 300),
    prefetch=st.integers(0, 5_000),
    seconds=st.floats(0, 100),
    running=st.integers(0, 300),
    buffered=st.integers(0, 6_000),
)
def test_no_more_is_held_than_can_be_begun_soon(
    concurrency: int, prefetch: int, seconds: float, running: int, buffered: int
) -> None:
    pace = Pace(concurrency, prefetch)
    pace.record(seconds)
    running = min(running, concurrency)
    wanted = pace.wanted(running, buffered)
    assert 0 <= wanted <= BATCH
    assert pace.ahead <= prefetch
    assert pace.ahead * seconds <= AHEAD_SECONDS * concurrency + 1e-9
    if wanted:
        assert running + buffered + wanted <= concurrency + pace.ahead
    elif running + buffered < concurrency:
        pytest.fail("a free handler waits for nothing")


# ---- keeping --------------------------------------------------------------------------------------


def held(task_id: str = "1", nonce: str = "n") -> BaseDelivery:
    return BaseDelivery(Claimed(id=task_id, nonce=nonce), 60.0, "60s")


def test_a_claim_is_extended_after_a_third_of_its_time() -> None:
    delivery = held()
    now = time.monotonic()
    assert due_for_extension([delivery], 60.0, now + 19.0) == []
    assert due_for_extension([delivery], 60.0, now + 21.0) == [delivery]
    put_off(delivery, 60.0)
    assert due_for_extension([delivery], 60.0, now + 29.0) == []
    assert due_for_extension([delivery], 60.0, now + 31.0) == [delivery]


def test_what_is_settled_or_lost_is_not_extended() -> None:
    settled, lost = held(), held()
    settled._done()
    lost._lost = True
    assert due_for_extension([settled, lost], 60.0, time.monotonic() + 50) == []


def test_claims_are_looked_at_often_enough() -> None:
    for timeout in (0.1, 1.0, 60.0, 3_600.0):
        assert tick_seconds(timeout) <= min(timeout / 12, PATIENCE_SECONDS / 2)


def test_a_task_waits_for_a_handler_only_so_long() -> None:
    delivery = held()
    assert not is_overdue(delivery, delivery._received + PATIENCE_SECONDS * 0.9)
    assert is_overdue(delivery, delivery._received + PATIENCE_SECONDS)


# ---- batches --------------------------------------------------------------------------------------


def outcome(size: int = 10) -> Outcome[BaseDelivery]:
    return Outcome(held(), msgspec.Raw(b"x" * size))


@given(st.lists(st.integers(1, FULL_BYTES * 2) | st.integers(1, 100), max_size=30))
def test_batches_hold_every_outcome_once_in_order_and_within_bounds(sizes: list[int]) -> None:
    outcomes = [outcome(size) for size in sizes]
    waiting = deque(outcomes)
    taken: list[Outcome[BaseDelivery]] = []
    while waiting:
        batch = take_batch(waiting)
        assert batch
        assert len(batch) == 1 or sum(len(bytes(each.item)) for each in batch) <= FULL_BYTES
        taken += batch
    assert [id(each) for each in taken] == [id(each) for each in outcomes]
    assert take_batch(waiting) == []


def test_a_batch_is_full_at_some_point() -> None:
    waiting = deque(outcome() for _ in range(FULL + 1))
    assert len(take_batch(waiting)) == FULL
    assert len(waiting) == 1


def test_statuses_say_what_is_done_refused_and_to_be_tried_again() -> None:
    batch = [outcome() for _ in range(4)]
    statuses = [
        CommitStatus("1", 200),
        CommitStatus("2", 409, {"code": 409, "message": "conflict: why"}),
        CommitStatus("3", 503),
        CommitStatus("4", 404),
    ]
    done, refused, again = sort_statuses(batch, statuses)
    assert done == [batch[0]]
    assert refused == [(batch[1], "conflict: why"), (batch[3], "404")]
    assert again == [batch[2]]


def test_an_answer_that_does_not_fit_its_batch_is_no_answer() -> None:
    with pytest.raises(TransportError, match="2 commits were answered by 1"):
        sort_statuses([outcome(), outcome()], [CommitStatus("1", 200)])
