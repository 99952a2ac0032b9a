"""The indexes: those of a Ratus in Go under their own names, and those of this one beside them.

| name | serves |
| --- | --- |
| `topic_hashed` | Go's; deleting a topic in the order of insertion, which no change of state upsets |
| `topic_1_scheduled_1` | Go's claims; here the earliest task of a topic, whatever its priority |
| `deadline_1` | Go's; the chore that takes lapsed claims back |
| `topic_1` | Go's; the active tasks of a topic |
| `claim_order` | the order of claiming; what a look-up of due tasks needs is in the index |
| `topic_1_deadline_1` | the next claim of a topic to lapse |
| `topic_1_expires_1` | pending tasks that expire; the index does not hold others |
| `topic_1_state_1__id_1` | lists, counts, the names of topics |
| `topic_1_keys_1_state_1__id_1` | lists and counts by label; it holds only tasks that have labels |
| `claim_order_by_key` | the order of claiming among the pending tasks with a value of a label |
| `topic_1_keys_1_sequence_1` | the order of creation among these, for limits that are ordered |
| `committed_1` | retention: MongoDB deletes by it, and so does the chore |

In the order of claiming the bounds are a topic, any priority, and ``scheduled`` up to now. MongoDB jumps over
what is not due in one priority to the next, so a claim looks at one key a priority, whatever lies there.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure
from pymongo.operations import IndexModel

from ratus.core.records import ACTIVE, COMPLETED, PENDING
from ratus_engines.mongodb.errors import is_passing, reason
from ratus_engines.mongodb.labels import FIELD

logger = logging.getLogger("ratus.engines.mongodb")

TOPIC = "topic_hashed"
SCHEDULED = "topic_1_scheduled_1"
DEADLINE = "deadline_1"
ACTIVE_TOPIC = "topic_1"
CLAIMS = "claim_order"
LAPSES = "topic_1_deadline_1"
EXPIRIES = "topic_1_expires_1"
LISTS = "topic_1_state_1__id_1"
KEYS = "topic_1_keys_1_state_1__id_1"
KEY_CLAIMS = "claim_order_by_key"
KEY_CREATION = "topic_1_keys_1_sequence_1"
RETENTION = "committed_1"

# By this index, MongoDB deletes tasks by the time of their claim, not of their commit. A Go Ratus makes it
# and may still need it, so it is not dropped here.
GO_RETENTION = "consumed_1"

CLAIM_ORDER = [("priority", -1), ("scheduled", 1), ("sequence", 1)]

# Among tasks of one priority, the order of claiming or its reverse.
DUE_FIRST = [("scheduled", 1), ("sequence", 1)]
NEWEST_FIRST = [("scheduled", -1), ("sequence", -1)]

# TTL indexes hold seconds as an int of 32 bits.
_LONGEST_RETENTION = 2**31 - 1
_SECOND = 1_000_000

_PENDING, _ACTIVE, _COMPLETED = {"state": PENDING}, {"state": ACTIVE}, {"state": COMPLETED}

_LABELLED = {FIELD: {"$exists": True}}

_MODELS = (
    IndexModel([("topic", "hashed")], name=TOPIC),
    IndexModel([("topic", 1), ("scheduled", 1)], name=SCHEDULED, partialFilterExpression=_PENDING),
    IndexModel([("deadline", 1)], name=DEADLINE, partialFilterExpression=_ACTIVE),
    IndexModel([("topic", 1)], name=ACTIVE_TOPIC, partialFilterExpression=_ACTIVE),
    IndexModel(
        [("topic", 1), ("state", 1), *CLAIM_ORDER, ("expires", 1), ("_id", 1)],
        name=CLAIMS,
        partialFilterExpression=_PENDING,
    ),
    IndexModel([("topic", 1), ("deadline", 1)], name=LAPSES, partialFilterExpression=_ACTIVE),
    IndexModel(
        [("topic", 1), ("expires", 1)],
        name=EXPIRIES,
        partialFilterExpression={**_PENDING, "expires": {"$exists": True}},
    ),
    IndexModel([("topic", 1), ("state", 1), ("_id", 1)], name=LISTS),
    IndexModel(
        [("topic", 1), (FIELD, 1), ("state", 1), ("_id", 1)],
        name=KEYS,
        partialFilterExpression=_LABELLED,
    ),
    IndexModel(
        [("topic", 1), (FIELD, 1), *CLAIM_ORDER],
        name=KEY_CLAIMS,
        partialFilterExpression={**_PENDING, **_LABELLED},
    ),
    IndexModel(
        [("topic", 1), (FIELD, 1), ("sequence", 1)],
        name=KEY_CREATION,
        partialFilterExpression={**_PENDING, **_LABELLED},
    ),
)
NAMES = frozenset({*(model.document["name"] for model in _MODELS), RETENTION})


async def ensure(
    tasks: AsyncCollection[Any], *, retention: int, create: bool
) -> tuple[frozenset[str], Sequence[str]]:
    """If ``create``, make indexes that are missing, and set the retention (in microseconds) of `RETENTION`.

    Returns the names of those in `NAMES` that exist, and notes for the operator. Raises errors of the driver
    where the database is away; an index that cannot be made is only mentioned in the notes.
    """
    found = await _existing(tasks)
    notes: list[str] = []
    if GO_RETENTION in found:
        where = f"db.getSiblingDB({tasks.database.name!r}).getCollection({tasks.name!r})"
        notes.append(
            f"the index {GO_RETENTION} of {tasks.full_name} deletes completed tasks by the time of their "
            "claim, too early for the retention period. It is kept for a Ratus in Go; once there is none, "
            f"drop it with {where}.dropIndex({GO_RETENTION!r})"
        )
    if create:
        notes += await _create(tasks, [model for model in _MODELS if not _is_there(model, found)])
        notes += await _keep_retention(tasks, found, retention)
        found = await _existing(tasks)
    names = frozenset(model.document["name"] for model in _MODELS if _is_there(model, found))
    if RETENTION in found:
        names |= {RETENTION}
    if names != NAMES:
        notes.append(f"these indexes are missing, and queries are slow: {', '.join(sorted(NAMES - names))}")
    return names, notes


async def _existing(tasks: AsyncCollection[Any]) -> dict[str, dict[str, Any]]:
    try:
        return await tasks.index_information()  # type: ignore[return-value]  # mappings in the driver's types
    except OperationFailure as error:
        if is_passing(error):
            raise
        # An account may be allowed to use a collection and not to look at its indexes.
        logger.warning("cannot see the indexes of %s: %s", tasks.full_name, reason(error))
        return {}


def _is_there(model: IndexModel, found: dict[str, dict[str, Any]]) -> bool:
    """Whether an index of the name has the same keys; another filter is the operator's choice."""
    there = found.get(model.document["name"])
    return there is not None and list(there["key"]) == list(model.document["key"].items())


async def _create(tasks: AsyncCollection[Any], models: Sequence[IndexModel]) -> list[str]:
    """Make indexes. Returns a note for each that could not be made."""
    if not models:
        return []
    logger.info("making the indexes %s of %s", ", ".join(m.document["name"] for m in models), tasks.full_name)
    try:
        await tasks.create_indexes(list(models))
    except OperationFailure as error:
        if is_passing(error):
            raise
        if len(models) == 1:
            return [f"cannot make the index {models[0].document['name']}: {reason(error)}"]
        # One index that cannot be made must not prevent the others, so each is made by itself.
        return [note for model in models for note in await _create(tasks, [model])]
    return []


async def _keep_retention(
    tasks: AsyncCollection[Any], found: dict[str, dict[str, Any]], retention: int
) -> list[str]:
    # Rounded up: better a second longer than one too short.
    seconds = min(-(-retention // _SECOND), _LONGEST_RETENTION)
    there = found.get(RETENTION)
    if there is None:
        model = IndexModel(
            [("committed", 1)],
            name=RETENTION,
            partialFilterExpression=_COMPLETED,
            expireAfterSeconds=seconds,
        )
        return await _create(tasks, [model])
    if there.get("expireAfterSeconds") == seconds:
        return []
    try:
        await tasks.database.command(
            "collMod", tasks.name, index={"name": RETENTION, "expireAfterSeconds": seconds}
        )
    except OperationFailure as error:
        if is_passing(error):
            raise
        return [f"cannot change the retention of the index {RETENTION}: {reason(error)}"]
    logger.info("the index %s of %s now keeps tasks for %d s", RETENTION, tasks.full_name, seconds)
    return []
