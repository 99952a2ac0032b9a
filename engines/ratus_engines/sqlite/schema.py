"""The tables, their indexes, and how a file of an older version gets them.

The schema's version is SQLite's ``user_version``; ``application_id`` marks a file of Ratus. `MIGRATIONS`
lead from each version to the next, each in a transaction of its own: a crash in the middle leaves a file
that the next start goes on with.

Times are integers of microseconds since 1970-01-01 UTC. Payload and result are JSON text as blobs and stand
last of what most tasks have, so that reading other members never follows their overflow pages.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

APPLICATION_ID = int.from_bytes(b"Ratu")

_TABLES = """
-- Topics have numbers, so that a thousand bytes of name are not in every index entry of every task.
-- How many tasks a topic has in each state is kept, not counted.
CREATE TABLE topics (
    topic INTEGER PRIMARY KEY,              -- from counters.last, never given twice; in order of creation
    name TEXT NOT NULL UNIQUE,
    paused INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    active INTEGER NOT NULL,
    completed INTEGER NOT NULL,
    archived INTEGER NOT NULL,
    due INTEGER NOT NULL,                   -- pending tasks whose scheduled is not after due_until
    due_until INTEGER NOT NULL,
    arrived INTEGER NOT NULL                -- counters.arrived as of when something became available last
);
-- Which topics have something new, for servers that wait for what other servers insert.
CREATE INDEX topics_arrived ON topics (arrived);

CREATE TABLE counters (
    last INTEGER NOT NULL,                  -- the last number given to a task or a topic
    arrived INTEGER NOT NULL
);
INSERT INTO counters VALUES (0, 0);

CREATE TABLE tasks (
    sequence INTEGER PRIMARY KEY,           -- from counters.last, never given twice; the order of creation
    id TEXT NOT NULL UNIQUE,
    topic INTEGER NOT NULL,
    produced INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    state INTEGER NOT NULL DEFAULT 0,
    nonce TEXT NOT NULL DEFAULT '',
    producer TEXT NOT NULL DEFAULT '',
    consumer TEXT NOT NULL DEFAULT '',
    consumed INTEGER,
    deadline INTEGER,
    committed INTEGER,
    priority INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    retry TEXT,                             -- the policy as JSON
    error TEXT NOT NULL DEFAULT '',
    outcome TEXT NOT NULL DEFAULT '',
    expires INTEGER,
    implied INTEGER NOT NULL DEFAULT 0,
    payload BLOB,
    result BLOB
);
-- Every index ends in the rowid, which is sequence. Lists of a topic, by state:
CREATE INDEX tasks_listed ON tasks (topic, state);
-- Claims: the head of each priority is found without looking at anything that is not due.
CREATE INDEX tasks_pending ON tasks (topic, priority, scheduled) WHERE state = 0;
CREATE INDEX tasks_active ON tasks (topic, deadline) WHERE state = 1;
CREATE INDEX tasks_expiring ON tasks (topic, expires) WHERE state = 0 AND expires IS NOT NULL;
CREATE INDEX tasks_completed ON tasks (committed) WHERE state = 2;
"""

_EARLY = """
-- Pending tasks that were due when they came and are not any more, since the clock was set back. They stay
-- due. Empty while no clock is set back; a row goes when its task is claimed, changed or due again.
CREATE TABLE early (
    sequence INTEGER PRIMARY KEY,
    topic INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    scheduled INTEGER NOT NULL
);
CREATE INDEX early_claims ON early (topic, priority, scheduled);
CREATE INDEX early_scheduled ON early (scheduled);
"""

_RARE = """
-- Members that few tasks have, together as one JSON object; NULL for a task that has none of them.
ALTER TABLE tasks ADD COLUMN rare TEXT;
"""

_RECORDS = """
-- Records of every kind but tasks; see ratus.core.kinds.
CREATE TABLE records (
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    version INTEGER NOT NULL,               -- from counters.last, never given twice
    members TEXT NOT NULL,                  -- one JSON object; members at their default are left out
    PRIMARY KEY (kind, id)
) WITHOUT ROWID;
-- topics.paused is what the record of a topic's settings says: so a claim reads one row a topic.
INSERT INTO records SELECT 'topics', name, topic, '{"paused":true}' FROM topics WHERE paused;
"""

_LANES = """
-- Each value of each label of each task, in the order in which the task has them.
CREATE TABLE labels (
    sequence INTEGER NOT NULL,              -- of the task
    place INTEGER NOT NULL,
    topic INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (sequence, place)
) WITHOUT ROWID;
CREATE INDEX labels_listed ON labels (topic, name, value, sequence);

-- The pending tasks with each value of a label, in the order of claiming; early as in the table early.
CREATE TABLE waiting (
    topic INTEGER NOT NULL,
    name TEXT NOT NULL,
    value TEXT NOT NULL,
    priority INTEGER NOT NULL,
    early INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    first INTEGER NOT NULL,                 -- the task's first value of this label, which says its lane
    PRIMARY KEY (topic, name, value, priority DESC, early DESC, scheduled, sequence)
) WITHOUT ROWID;
CREATE INDEX waiting_other ON waiting (topic, name, value, priority DESC, early DESC, scheduled, sequence)
    WHERE NOT first;

-- The labels of a topic for which there are lanes.
CREATE TABLE labels_in_use (
    label INTEGER PRIMARY KEY,              -- from counters.last
    topic INTEGER NOT NULL,
    name TEXT NOT NULL,
    lanes INTEGER NOT NULL,                 -- how many there are
    covered INTEGER NOT NULL,               -- tasks up to this number are in lanes, and so are those
    until INTEGER NOT NULL,                 -- behind this one; those between come in slices
    renewed,                                -- the last value whose lane keeps the limits as they are now, -1
                                            -- for none yet; NULL: all lanes do
    built INTEGER NOT NULL,                 -- whether both is done
    UNIQUE (topic, name)
);
CREATE INDEX labels_unbuilt ON labels_in_use (topic) WHERE NOT built;

CREATE TABLE lanes (
    lane INTEGER PRIMARY KEY,               -- from counters.last
    label INTEGER NOT NULL,
    value NOT NULL,                         -- a text; an empty blob for the tasks without the label
    active INTEGER NOT NULL,
    pending INTEGER NOT NULL,
    served INTEGER NOT NULL,                -- from counters.last
    allowed INTEGER NOT NULL,               -- the times of rate and hold
    held INTEGER NOT NULL,
    priority INTEGER,                       -- the highest of a due task; NULL: none is due, or it is closed
    wakes INTEGER,                          -- when to look again at the priority; NULL: after a change
    shut INTEGER NOT NULL,                  -- a task is due, and a rate or a hold closes the lane
    UNIQUE (label, value)
);
-- Lanes with a task that can be claimed, in the order of turns.
CREATE INDEX lanes_ready ON lanes (label, priority DESC, active, served) WHERE priority IS NOT NULL;
CREATE INDEX lanes_sleeping ON lanes (label, wakes) WHERE wakes IS NOT NULL;
CREATE INDEX lanes_shut ON lanes (label, wakes) WHERE shut;
CREATE INDEX lanes_held ON lanes (label) WHERE held > 0;

-- The pending tasks of each lane, in the order of claiming.
CREATE TABLE lines (
    lane INTEGER NOT NULL,
    priority INTEGER NOT NULL,
    early INTEGER NOT NULL,
    scheduled INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    PRIMARY KEY (lane, priority DESC, early DESC, scheduled, sequence)
) WITHOUT ROWID;
CREATE INDEX lines_created ON lines (lane, sequence);

-- Times of rate and hold of lanes that have no task, and (with an empty label) of topics without a row.
CREATE TABLE times (
    topic TEXT NOT NULL,
    label TEXT NOT NULL,
    value NOT NULL,
    allowed INTEGER NOT NULL,
    held INTEGER NOT NULL,
    ends INTEGER NOT NULL,                  -- the later of both: then the row says nothing any more
    PRIMARY KEY (topic, label, value)
) WITHOUT ROWID;
CREATE INDEX times_ends ON times (ends);

ALTER TABLE topics ADD COLUMN labels INTEGER NOT NULL DEFAULT 0;    -- 1: of tasks, 2: in use, 3: both
ALTER TABLE topics ADD COLUMN limits TEXT;                          -- as the record of its settings has them
ALTER TABLE topics ADD COLUMN allowed INTEGER NOT NULL DEFAULT 0;   -- the times of rate and hold
ALTER TABLE topics ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
"""

MIGRATIONS: Sequence[str] = (_TABLES, _EARLY, _RARE, _RECORDS, _LANES)
"""What leads from version 0 (nothing) to 1, from 1 to 2, and so on: SQL that runs in one transaction."""


class Foreign(Exception):
    """The file must not be touched. The text says what it is and what to do; it follows the file's name."""


def check(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> int:
    """The schema version of the file, 0 for an empty one.

    Raises `Foreign` for a database of another program and for one that a newer version of this program made.
    """
    version = _number(connection, "PRAGMA user_version")
    application = _number(connection, "PRAGMA application_id")
    if application != APPLICATION_ID and (
        application or version or _number(connection, "SELECT count(*) FROM sqlite_schema")
    ):
        raise Foreign("is an SQLite database of another program; choose another path")
    if version > len(migrations):
        raise Foreign(
            f"was written by a newer version of Ratus (schema {version}, this one knows up to "
            f"{len(migrations)}); use that version, or restore a backup from before"
        )
    return version


def migrate(connection: sqlite3.Connection, migrations: Sequence[str] = MIGRATIONS) -> None:
    """Bring the file to the newest version. Raises `Foreign`, and `sqlite3.Error` if it fails."""
    while check(connection, migrations) < len(migrations):
        connection.execute("BEGIN IMMEDIATE")
        try:
            # Another process may have migrated the file meanwhile: what counts is the version under the lock.
            version = check(connection, migrations)
            if version < len(migrations):
                for statement in _statements(migrations[version]):
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _statements(script: str) -> list[str]:
    """The statements of a script one by one: `executescript` would commit the transaction they run in."""
    statements, begun = [], ""
    for piece in script.split(";")[:-1]:
        begun += piece + ";"
        # A semicolon in a text or a comment does not end a statement.
        if sqlite3.complete_statement(begun):
            statements.append(begun)
            begun = ""
    return statements


def _number(connection: sqlite3.Connection, statement: str) -> int:
    (value,) = connection.execute(statement).fetchone()
    assert isinstance(value, int)
    return value
