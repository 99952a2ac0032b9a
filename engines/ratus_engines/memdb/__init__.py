"""memdb: the default engine. Everything in memory, with a snapshot in a file if a path is given."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratus.engine import Option, Plugin

if TYPE_CHECKING:
    from ratus.engine import Engine


def create(values: Mapping[str, Any]) -> Engine:
    """The engine as the settings describe it; ``values`` are option values by name."""
    from ratus_engines.memdb.engine import MemdbEngine

    return MemdbEngine(
        snapshot_path=values["memdb-snapshot-path"],
        snapshot_interval=values["memdb-snapshot-interval"],
        retry=values["retry"],
    )


plugin = Plugin(
    name="memdb",
    summary="in memory, one process; a snapshot in a file if a path is given",
    options=(
        Option(
            name="memdb-snapshot-path",
            kind="text",
            default="",
            placeholder="PATH",
            help="file that holds a snapshot of all tasks; empty: nothing survives a restart",
        ),
        Option(
            name="memdb-snapshot-interval",
            kind="duration",
            default="5m",
            placeholder="DURATION",
            help="time between snapshots; one more is written when the server stops",
        ),
    ),
    create=create,
)
