"""Compares what the file keeps of labels and lanes with the tasks themselves."""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from ratus_engines.sqlite.rows import COLUMNS, task_of

from ratus.core.labels import first_value, pairs_of
from ratus.core.records import ACTIVE, PENDING, TaskRecord


def check_lanes(path: Path) -> None:
    """Assert that all tables of labels and lanes hold what follows from the tasks, no more and no less."""
    connection = sqlite3.connect(path)
    try:
        connection.execute("BEGIN")
        _check(connection)
    finally:
        connection.close()


def _check(connection: sqlite3.Connection) -> None:
    def rows(statement: str) -> list[Any]:
        return sorted(connection.execute(statement).fetchall(), key=repr)

    topics: dict[str, int] = dict(connection.execute("SELECT name, topic FROM topics"))
    early = {number for (number,) in connection.execute("SELECT sequence FROM early")}
    tasks = [
        task_of(row) for row in connection.execute(f"SELECT {COLUMNS} FROM tasks JOIN topics USING (topic)")
    ]
    labels, waiting = [], []
    for task in tasks:
        pairs = pairs_of(task.labels)
        labels += [(task.sequence, at, topics[task.topic], *pair) for at, pair in enumerate(pairs)]
        if task.state == PENDING:
            for name, value in pairs:
                first = int(first_value(task.labels, name) == value)
                waiting.append((topics[task.topic], name, value, *place(task, early), first))
    assert rows("SELECT * FROM labels") == sorted(labels, key=repr)
    assert rows("SELECT * FROM waiting") == sorted(waiting, key=repr)

    lanes: dict[tuple[int, Any], Counter[int]] = defaultdict(Counter)
    lines = []
    counts: Counter[int] = Counter()
    in_use = connection.execute("SELECT label, topic, name, lanes, built FROM labels_in_use").fetchall()
    numbers = {
        (label, value): lane
        for lane, label, value in connection.execute("SELECT lane, label, value FROM lanes")
    }
    for label, topic, name, _, built in in_use:
        assert built
        assert topic in topics.values()
        for task in tasks:
            if topics[task.topic] == topic and task.state in (PENDING, ACTIVE):
                lane = first_value(task.labels, name)
                key = (label, b"" if lane is None else lane)
                lanes[key][task.state] += 1
                if task.state == PENDING:
                    lines.append((numbers[key], *place(task, early)))
        counts[label] = sum(key[0] == label for key in lanes)
    assert rows("SELECT label, value, active, pending FROM lanes") == sorted(
        ((*key, count[ACTIVE], count[PENDING]) for key, count in lanes.items()), key=repr
    )
    assert rows("SELECT * FROM lines") == sorted(lines, key=repr)
    assert {label: lanes for label, _, _, lanes, _ in in_use} == {row[0]: counts[row[0]] for row in in_use}


def place(task: TaskRecord, early: set[int]) -> tuple[int, int, int, int]:
    """The place of a pending task in the tables that are in the order of claiming."""
    return task.priority, int(task.sequence in early), task.scheduled, task.sequence
