"""sqlite: one file, no server to run. An acknowledged write survives ``kill -9`` and a power cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratus.engine import Option, Plugin

if TYPE_CHECKING:
    from ratus.engine import Engine


def create(values: Mapping[str, Any]) -> Engine:
    """The engine as the settings describe it; ``values`` are option values by name."""
    from ratus_engines.sqlite.engine import SqliteEngine

    return SqliteEngine(
        path=values["sqlite-path"],
        synchronous=values["sqlite-synchronous"],
        busy_timeout=values["sqlite-busy-timeout"],
        retry=values["retry"],
    )


def backup(values: Mapping[str, Any], target: Path, progress: Callable[[int, int], None]) -> None:
    """Copy the database that the settings name; see `ratus_engines.sqlite.backups.copy`."""
    from ratus_engines.sqlite.backups import copy

    copy(Path(values["sqlite-path"]), target, values["sqlite-busy-timeout"], progress)


plugin = Plugin(
    name="sqlite",
    summary="one file, every acknowledged write is on disk; several processes of one machine may share it",
    options=(
        Option(
            name="sqlite-path",
            kind="text",
            default="ratus.db",
            placeholder="PATH",
            help="database file, created if it is not there; on a disk of this machine, not a network share",
        ),
        Option(
            name="sqlite-synchronous",
            kind="choice",
            default="full",
            choices=("full", "normal"),
            help="full: an answered write is on disk; normal: faster, but a power cut or a crash of the "
            "system (not of the server) loses the last moments before it",
        ),
        Option(
            name="sqlite-busy-timeout",
            kind="duration",
            default="5s",
            placeholder="DURATION",
            minimum=1_000,
            maximum=3_600_000_000,
            help="how long a write waits while other processes hold the file, before it fails with 503",
        ),
    ),
    create=create,
    backup=backup,
)
