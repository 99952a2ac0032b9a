"""mongodb: a MongoDB deployment, shared by any number of servers, those in Go included."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from ratus.engine import MissingDriver, Option, Plugin

if TYPE_CHECKING:
    from ratus.engine import Engine


def create(values: Mapping[str, Any]) -> Engine:
    """The engine as the settings describe it; ``values`` are option values by name.

    Raises `MissingDriver` without pymongo, and `ValueError` for a URI or a name that cannot be used.
    """
    if find_spec("pymongo") is None:
        raise MissingDriver("mongodb", driver="pymongo", install="pip install 'ratus-queue[mongodb]'")
    from ratus_engines.mongodb.engine import MongodbEngine

    return MongodbEngine(
        values["mongodb-uri"],
        database=values["mongodb-database"],
        collection=values["mongodb-collection"],
        retention=values["retention-period"],
        create_indexes=not values["mongodb-disable-index-creation"],
        fallback=not values["mongodb-disable-auto-fallback"],
        atomic_poll=not values["mongodb-disable-atomic-poll"],
        retry=values["retry"],
    )


plugin = Plugin(
    name="mongodb",
    summary="a MongoDB deployment, shared by any number of servers; reads and writes what a Ratus in Go does",
    options=(
        Option(
            name="mongodb-uri",
            kind="text",
            default="mongodb://127.0.0.1:27017",
            placeholder="URI",
            secret=True,
            help="connection URI of the deployment; what its options say is kept",
        ),
        Option(
            name="mongodb-database",
            kind="text",
            default="ratus",
            placeholder="NAME",
            help="name of the database",
        ),
        Option(
            name="mongodb-collection",
            kind="text",
            default="tasks",
            placeholder="NAME",
            help="name of the collection of tasks; settings of topics are in one beside it, NAME_topics, "
            "and turns and limits in another, NAME_lanes",
        ),
        Option(
            name="mongodb-disable-index-creation",
            kind="switch",
            default=False,
            help="make no indexes and change none at the start",
        ),
        Option(
            name="mongodb-disable-auto-fallback",
            kind="switch",
            default=False,
            help="fail where a sharded deployment refuses an atomic operation, instead of doing it "
            "optimistically",
        ),
        Option(
            name="mongodb-disable-atomic-poll",
            kind="switch",
            default=False,
            help="poll optimistically from the start",
        ),
    ),
    create=create,
)
