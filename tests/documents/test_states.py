"""The table and the picture of a task's states are those of the state machine."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from ratus.core import transitions
from ratus.core.errors import Conflict
from ratus.core.records import ACTIVE, ARCHIVED, COMPLETED, PENDING, CommitRecord, RetryPolicy, TaskRecord
from ratus.core.transitions import ClaimById, Command, Expire, Extend, Lapse, Release, RetryDefaults
from scripts import state_diagram
from tests.documents.pages import read

NAMES = {PENDING: "pending", ACTIVE: "active", COMPLETED: "completed", ARCHIVED: "archived"}
NONCE = "0uRq7bX2aYc1Zk9T"
NOW = 1_000_000

Step = tuple[str, str, str]
"""From which state, by what, to which state."""


def task(state: int, *, attempts_left: bool = True) -> TaskRecord:
    """A task in a state, as it gets there."""
    return TaskRecord(
        "1",
        "t",
        0,
        0,
        state=state,
        nonce=NONCE if state == ACTIVE else "",
        deadline=NOW,
        attempts=1,
        retry=RetryPolicy(max_attempts=2 if attempts_left else 1),
    )


def commands(state: int) -> Iterator[tuple[str, Command, TaskRecord]]:
    """Whatever may be asked of a task in this state: what it is called, the command, the task."""
    yield "claim", ClaimById("another nonce...", NOW), task(state)
    yield "claim by PUT", ClaimById("another nonce...", NOW, force=True), task(state)
    yield "release", Release(NONCE), task(state)
    yield "extend", Extend(NONCE, NOW), task(state)
    for left, (nonce, forced) in itertools.product((True, False), ((NONCE, ""), ("", "forced "))):
        commits: tuple[tuple[str, dict[str, Any]], ...] = (
            ("commit", {}),
            ("commit", {"state": COMPLETED}),
            ("commit with state 0", {"state": PENDING}),
            ("commit with state 1", {"state": ACTIVE}),
            ("commit with state 3", {"state": ARCHIVED}),
            (f"failure with {'' if left else 'no '}attempts left", {"error": "boom"}),
        )
        for name, members in commits:
            yield forced + name, CommitRecord("1", nonce, **members), task(state, attempts_left=left)
        yield f"lapse with {'' if left else 'no '}attempts left", Lapse(), task(state, attempts_left=left)
    expired = task(state)
    expired.expires = NOW
    yield "expiry", Expire(), expired


def steps() -> set[Step]:
    """Every step that the state machine allows."""
    found = set()
    for state in NAMES:
        for name, command, given in commands(state):
            try:
                change = transitions.decide(given, command, NOW, RetryDefaults(), lambda: 0.5)
            except Conflict:
                continue
            transitions.apply(given, change)
            found.add((NAMES[state], name, NAMES[given.state]))
    return found


def listed() -> set[Step]:
    """Every step that docs/concepts.md lists."""
    table = read("docs/concepts.md").partition("Everything that can happen to a task:")[2]
    found = set()
    for row in re.findall(r"^\| ([a-z].*) \|$", table, re.MULTILINE):
        origins, what, end = (cell.strip() for cell in row.split("|"))
        if origins == "from":
            continue
        plain = re.sub(r" \([^)]*\)|:.*", "", what).replace("`", "")
        for origin in origins.split(", "):
            for name in plain.split(", or "):
                found.add((origin, "claim by PUT" if "PUT" in name else name, end))
    return found


def test_the_table_is_the_state_machine() -> None:
    real = steps()
    # A forced commit may do to an active task what one with its nonce does; the table says that in its text.
    assert listed() == {step for step in real if not (step[0] == "active" and "forced" in step[1])} - {
        ("pending", "claim by PUT", "active")  # the same as any other claim
    }
    for _, name, end in (step for step in real if step[0] == "active" and "forced" in step[1]):
        assert ("active", name.removeprefix("forced "), end) in real


def test_the_picture_has_every_way_of_an_ordinary_life() -> None:
    ordinary = {(start, end) for start, name, end in steps() if "forced" not in name and "PUT" not in name}
    drawn = {
        (edge.start, edge.end) for edge in state_diagram.EDGES if edge.start and edge.end and not edge.forced
    }
    assert drawn == ordinary
    wanted = {(edge.start, edge.end) for edge in state_diagram.EDGES if edge.forced}
    assert wanted <= {(start, end) for start, name, end in steps() if "forced" in name}


def test_the_picture_is_drawn_anew_and_stands_alone() -> None:
    text = state_diagram.PICTURE.read_text(encoding="utf-8")
    assert text == state_diagram.picture(), "run: python scripts/state_diagram.py"
    ElementTree.fromstring(text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|url\((?!#)|<script|@import", text)
