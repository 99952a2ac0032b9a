"""The checker of histories passes a history that is right, and each of its rules catches one that is not."""

from __future__ import annotations

import math

import pytest

from tests.history.checker import Claim, Commit, Delivery, Extend, History, Insert, Left, violations

LOST = math.inf


def claim(started: float, *deliveries: Delivery, timeout: float = 10.0, ended: float | None = None) -> Claim:
    """A claim that was answered a tenth of a second later, or at `ended`."""
    return Claim(started, started + 0.1 if ended is None else ended, bool(deliveries), timeout, deliveries)


def insert(started: float, task: str, priority: int = 0) -> Insert:
    return Insert(started, started + 0.1, True, task, priority)


def commit(
    started: float, task: str, nonce: str, outcome: str = "completed", accepted: bool = True
) -> Commit:
    return Commit(started, started + 0.1, accepted, task, nonce, outcome)


def unanswered_commit(started: float, task: str, nonce: str, outcome: str = "completed") -> Commit:
    return Commit(started, LOST, False, task, nonce, outcome)


def extend(started: float, task: str, nonce: str, timeout: float) -> Extend:
    return Extend(started, started + 0.1, True, task, nonce, timeout)


A, B = Delivery("a", "n1", 1), Delivery("b", "n2", 1)
DONE = {"a": Left(COMPLETED := 2)}

RIGHT: dict[str, History] = {
    "nothing happened": History(),
    "claimed and completed": History([insert(0, "a"), claim(1, A), commit(2, "a", "n1")], DONE),
    "completed late, before it was handed out again": History(
        [insert(0, "a"), claim(1, A, timeout=1), commit(9, "a", "n1")], DONE
    ),
    "lapsed and claimed again; the first owner is refused": History(
        [
            insert(0, "a"),
            claim(1, A, timeout=1),
            claim(3, Delivery("a", "n3", 2)),
            commit(4, "a", "n1", accepted=False),
            commit(5, "a", "n3"),
        ],
        DONE,
    ),
    "failed, then completed": History(
        [
            insert(0, "a"),
            claim(1, A),
            commit(2, "a", "n1", "failed"),
            claim(3, Delivery("a", "n3", 2)),
            commit(4, "a", "n3"),
        ],
        DONE,
    ),
    "given back costs no attempt": History(
        [
            insert(0, "a"),
            claim(1, A),
            commit(2, "a", "n1", "released"),
            claim(3, Delivery("a", "n3", 1)),
            commit(4, "a", "n3"),
        ],
        DONE,
    ),
    "an insert without an answer may be lost, or not": History(
        [Insert(0, LOST, False, "a"), claim(9, B)], {}
    ),
    "a commit without an answer may have been a failure": History(
        [
            insert(0, "a"),
            claim(1, A),
            unanswered_commit(2, "a", "n1", "failed"),
            claim(3, Delivery("a", "n3", 2)),
            commit(4, "a", "n3"),
        ],
        DONE,
    ),
    "a claim without an answer may have had the task": History(
        [insert(0, "a"), Claim(1, LOST, False, 1.0), claim(9, Delivery("a", "n3", 2)), commit(10, "a", "n3")],
        DONE,
    ),
    "extended and completed": History(
        [insert(0, "a"), claim(1, A, timeout=1), extend(1.5, "a", "n1", 10), commit(9, "a", "n1")], DONE
    ),
    "claims that overlap may have come in either order": History(
        [
            insert(0, "a"),
            claim(1, A, timeout=1, ended=5),
            claim(2.5, Delivery("a", "n3", 2), timeout=9),
            commit(6, "a", "n3"),
        ],
        DONE,
    ),
    "a task of a higher priority that came in meanwhile stands behind": History(
        [insert(0, "a"), insert(1, "b", 5), claim(1, A, Delivery("b", "n2", 1, 5))],
        {"a": Left(1), "b": Left(1)},
    ),
    "the higher priority first": History(
        [insert(0, "a"), insert(0, "b", 5), claim(1, Delivery("b", "n2", 1, 5), A)],
        {"a": Left(1), "b": Left(1)},
    ),
    "a task that came while the claim was under way may wait": History(
        [insert(0, "a"), insert(1, "b", 5), claim(1, A)], {"a": Left(1), "b": Left(0)}
    ),
}

RIGHT |= {
    "a claim without an answer may have had the first in line": History(
        [insert(0, "a"), insert(0, "b", 5), Claim(0.5, LOST, False, 9, noticed=0.6), claim(1, A)],
        {"a": Left(1), "b": Left(1)},
    ),
    "a claim that a server lost may have had the first in line": History(
        [insert(0, "a"), insert(0, "b", 5), claim(1, A), claim(30, Delivery("b", "n2", 2, 5))],
        {"a": Left(1), "b": Left(1)},
        [(0.5, 4.0)],
    ),
}

WRONG: dict[str, tuple[str, History]] = {
    "an acknowledged task is not there": ("lost", History([insert(0, "a")])),
    "a completed task is pending again": (
        "lost",
        History([insert(0, "a"), claim(1, A), commit(2, "a", "n1")], {"a": Left(0)}),
    ),
    "a nonce is handed out twice": (
        "nonce",
        History(
            [insert(0, "a"), insert(0, "b"), claim(1, A), claim(2, Delivery("b", "n1", 1))],
            {"a": Left(1), "b": Left(1)},
        ),
    ),
    "two owners at once": (
        "owners",
        History([insert(0, "a"), claim(1, A, timeout=10), claim(3, Delivery("a", "n3", 2))], {"a": Left(1)}),
    ),
    "an acknowledged extension is overridden": (
        "owners",
        History(
            [
                insert(0, "a"),
                claim(1, A, timeout=1),
                extend(2.5, "a", "n1", 30),
                claim(3, Delivery("a", "n3", 2)),
            ],
            {"a": Left(1)},
        ),
    ),
    "a refused commit frees nothing": (
        "owners refused",
        History(
            [
                insert(0, "a"),
                claim(1, A, timeout=10),
                commit(2, "a", "n1", "failed", accepted=False),
                claim(3, Delivery("a", "n3", 2)),
            ],
            {"a": Left(1)},
        ),
    ),
    "a completed task is handed out": (
        "owners",
        History(
            [insert(0, "a"), claim(1, A), commit(2, "a", "n1"), claim(3, Delivery("a", "n3", 2))],
            {"a": Left(COMPLETED)},
        ),
    ),
    "a late commit is accepted": (
        "late",
        History(
            [insert(0, "a"), claim(1, A, timeout=1), claim(3, Delivery("a", "n3", 2)), commit(4, "a", "n1")],
            DONE,
        ),
    ),
    "a late extension is accepted": (
        "owners late",
        History(
            [
                insert(0, "a"),
                claim(1, A, timeout=1),
                claim(3, Delivery("a", "n3", 2), timeout=1),
                extend(3.5, "a", "n1", 0.1),
            ],
            {"a": Left(1)},
        ),
    ),
    "a task is completed twice": (
        "late",
        History([insert(0, "a"), claim(1, A), commit(2, "a", "n1"), commit(3, "a", "n1")], DONE),
    ),
    "a lapse does not count": (
        "attempts",
        History(
            [insert(0, "a"), claim(1, A, timeout=1), claim(3, Delivery("a", "n3", 1))],
            {"a": Left(1)},
        ),
    ),
    "a failure does not count": (
        "attempts",
        History(
            [insert(0, "a"), claim(1, A), commit(2, "a", "n1", "failed"), claim(3, Delivery("a", "n3", 1))],
            {"a": Left(1)},
        ),
    ),
    "a failure counts twice": (
        "attempts",
        History(
            [insert(0, "a"), claim(1, A), commit(2, "a", "n1", "failed"), claim(3, Delivery("a", "n3", 3))],
            {"a": Left(1)},
        ),
    ),
    "giving back counts": (
        "attempts",
        History(
            [insert(0, "a"), claim(1, A), commit(2, "a", "n1", "released"), claim(3, Delivery("a", "n3", 2))],
            {"a": Left(1)},
        ),
    ),
    "a commit in time is refused": (
        "refused",
        History([insert(0, "a"), claim(1, A), commit(2, "a", "n1", accepted=False)], {"a": Left(1)}),
    ),
    "a commit after an extension is refused": (
        "refused",
        History(
            [
                insert(0, "a"),
                claim(1, A, timeout=1),
                extend(1.5, "a", "n1", 30),
                commit(5, "a", "n1", accepted=False),
            ],
            {"a": Left(1)},
        ),
    ),
    "the later one first": (
        "order",
        History([insert(0, "b"), insert(1, "a"), claim(2, A)], {"a": Left(1), "b": Left(0)}),
    ),
    "the lower priority first": (
        "order",
        History([insert(0, "a"), insert(0, "b", 5), claim(1, A)], {"a": Left(1), "b": Left(0)}),
    ),
    "the lower priority first, long after an answer was lost": (
        "order",
        History(
            [
                Claim(0, LOST, False, 1, noticed=0.1),
                insert(0, "a"),
                insert(0, "b", 5),
                claim(9, A),
                claim(10, Delivery("b", "n2", 1, 5)),
            ],
            {"a": Left(1), "b": Left(1)},
        ),
    ),
    "the lower priority first in one answer": (
        "order",
        History(
            [insert(0, "a"), insert(0, "b", 5), claim(1, A, Delivery("b", "n2", 1, 5))],
            {"a": Left(1), "b": Left(1)},
        ),
    ),
}


@pytest.mark.parametrize("history", RIGHT.values(), ids=RIGHT)
def test_a_history_that_is_right_passes(history: History) -> None:
    assert violations(history) == []


@pytest.mark.parametrize(("rule", "history"), WRONG.values(), ids=WRONG)
def test_a_falsified_history_is_caught_by_its_rule(rule: str, history: History) -> None:
    assert [line.partition(":")[0] for line in violations(history)] == rule.split()


def test_every_rule_has_a_falsified_history() -> None:
    caught = {rule for rules, _ in WRONG.values() for rule in rules.split()}
    assert caught == {"lost", "nonce", "owners", "late", "attempts", "order", "refused"}
