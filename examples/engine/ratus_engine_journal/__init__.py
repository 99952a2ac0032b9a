"""journal: an engine to learn from. Tasks in one file, a line for every change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ratus.engine import Option, Plugin

if TYPE_CHECKING:
    from ratus.engine import Engine


def create(values: Mapping[str, Any]) -> Engine:
    """The engine as the settings describe it; ``values`` are option values by name."""
    # Imported late: the command loads the plugins of all engines, whichever is chosen.
    from ratus_engine_journal.engine import JournalEngine

    if not values["journal-path"]:
        raise ValueError("--journal-path is empty: name the file that holds the tasks")
    return JournalEngine(values["journal-path"], retry=values["retry"])


plugin = Plugin(
    name="journal",
    summary="one file, a line for every change; to learn from",
    options=(
        Option(
            name="journal-path",
            kind="text",
            default="ratus.journal",
            placeholder="PATH",
            help="file that holds the tasks, created if it is not there",
        ),
    ),
    create=create,
)
