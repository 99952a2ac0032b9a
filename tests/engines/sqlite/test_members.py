"""The columns of tasks are those of the table of members."""

from __future__ import annotations

import sqlite3

from ratus_engines.sqlite import rows, schema

from ratus.core.members import KEPT, Stored
from ratus.core.records import Rare

TYPES = {
    Stored.TEXT: "TEXT",
    Stored.INTEGER: "INTEGER",
    Stored.BOOLEAN: "INTEGER",
    Stored.TIME: "INTEGER",
    Stored.JSON: "BLOB",
    Stored.OBJECT: "TEXT",
}


def test_a_new_file_has_a_column_for_each_member() -> None:
    connection = sqlite3.connect(":memory:")
    schema.migrate(connection)
    found = connection.execute("SELECT name, type, \"notnull\" FROM pragma_table_info('tasks')").fetchall()
    connection.close()

    expected = {}
    for name, member in KEPT.items():
        assert member.type.stored is not None
        may_be_null = member.default is None and name not in ("id", "topic", "produced", "scheduled")
        expected[name] = (TYPES[member.type.stored], not may_be_null)
    expected["topic"] = ("INTEGER", True)  # the number of its row in topics
    expected["sequence"] = ("INTEGER", False)  # the primary key, which is never null anyway
    expected["rare"] = ("TEXT", False)
    assert {name: (kind, bool(not_null)) for name, kind, not_null in found} == expected


def test_a_rare_member_that_a_newer_version_wrote_is_passed_over() -> None:
    row: list[object] = [None] * len(rows.MEMBERS)
    row[rows.MEMBERS.index("rare")] = '{"magic": [1], "trace": {"baggage": "a=1"}}'
    assert rows.task_of(row).rare == Rare(trace=b'{"baggage": "a=1"}')
