"""`ratus backup`: a consistent copy of an engine's data, taken while servers use it."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from ratus.core.errors import StartupError
from ratus.core.options import SERVER_GROUPS, Group
from ratus.core.quoting import quoted
from ratus.engine.discovery import Catalogue, PluginError
from ratus.runtime import config

_USAGE: Final = "ratus backup --engine ENGINE [--flag VALUE ...] PATH"

_DESCRIPTION: Final = """\
Writes a consistent copy of the engine's data to PATH, while servers go on using it.

The copy holds everything that was acknowledged when the backup began. It is checked,
and it is on disk when the command ends with exit code 0. Nothing is ever overwritten:
PATH must be new. Give the same flags, or the same environment, as the server has.

  -h, --help            show this help"""

_EXAMPLES: Final = """\
Examples:
  A copy named after the day:
    ratus backup --engine sqlite --sqlite-path ratus.db "ratus-$(date +%F).db"
  The same with the server's environment:
    ENGINE=sqlite SQLITE_PATH=ratus.db ratus backup copy.db
  Restore: stop the server, move ratus.db and the files beside it (ratus.db-wal,
  ratus.db-shm) away, put the copy in the place of ratus.db, start the server."""

# Seconds between two reports: on a terminal, where each overwrites the one before, and in a log.
_ON_TERMINAL: Final = 0.2
_IN_LOG: Final = 10.0

_MEBIBYTE: Final = 2**20


def backup(arguments: Sequence[str]) -> int:
    """Exit code 0 when the copy is on disk, 1 when it could not be made, 2 for wrong arguments."""
    engines = config.catalogue()
    parser = _parser(engines)
    if "--help" in arguments or "-h" in arguments:
        print(parser.format_help().rstrip())
        return 0
    try:
        settings, target = _read(parser, arguments, os.environ, engines)
        plugin = engines.get(settings.engine)
    except (config.UsageError, PluginError) as error:
        print(f"ratus backup: {error} (see ratus backup --help)", file=sys.stderr)
        return 2
    if plugin.backup is None:
        able = ", ".join(name for name, each in engines.plugins.items() if each.backup is not None)
        print(
            f"ratus backup: engine {plugin.name} cannot be backed up by this command; --engine takes: {able}",
            file=sys.stderr,
        )
        return 2
    started = time.monotonic()
    progress = Progress(sys.stderr.isatty(), lambda text: print(text, end="", file=sys.stderr, flush=True))
    try:
        plugin.backup(settings.engine_options, target, progress)
    except StartupError as error:
        progress.end()
        print(f"ratus backup: {error}", file=sys.stderr)
        return 1
    progress.end()
    print(f"copied {progress.total / _MEBIBYTE:.1f} MiB to {target} in {time.monotonic() - started:.1f} s")
    return 0


class Progress:
    """Reports how far a long copy has come, not too often. Sizes are in bytes.

    On a ``terminal`` each report overwrites the one before; in a log each is a line.
    """

    def __init__(
        self, terminal: bool, write: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.total = 0
        self._terminal = terminal
        self._write = write
        self._clock = clock
        self._reported_at = clock()
        self._shown = False

    def __call__(self, done: int, total: int) -> None:
        self.total = total
        now = self._clock()
        if now - self._reported_at < (_ON_TERMINAL if self._terminal else _IN_LOG):
            return
        self._reported_at = now
        percent = 100 * done // total if total else 100
        text = f"copied {percent}% of {total / _MEBIBYTE:.1f} MiB"
        if done >= total:
            text += ", checking the copy"
        self._write(f"\r{text:<60}" if self._terminal else f"{text}\n")
        self._shown = self._terminal

    def end(self) -> None:
        """End the line of the last report on a terminal."""
        if self._shown:
            self._write("\n")


def _parser(engines: Catalogue) -> argparse.ArgumentParser:
    """The parser of the path and of the options that say which data: the engine and its own options."""
    choice = [option for group in SERVER_GROUPS for option in group.options if option.name == "engine"]
    able = [plugin for plugin in engines.plugins.values() if plugin.backup is not None]
    table = [
        Group("Which data", tuple(choice)),
        *(Group(f"Engine {plugin.name}", plugin.options) for plugin in able),
    ]
    parser = config.flag_parser(
        table,
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("path", nargs="*", metavar="PATH", help="the new file that becomes the copy")
    return parser


def _read(
    parser: argparse.ArgumentParser,
    arguments: Sequence[str],
    environ: Mapping[str, str],
    engines: Catalogue,
) -> tuple[config.Settings, Path]:
    """The settings and where the copy goes. Raises `config.UsageError`."""
    found, unknown = parser.parse_known_intermixed_args(arguments)
    if unknown:
        raise config.UsageError(f"unknown flag {quoted(unknown[0].partition('=')[0])}")
    values = vars(found)
    paths = values.pop("path", [])
    if len(paths) != 1 or not paths[0]:
        raise config.UsageError("name one PATH for the copy")
    flags = [f"--{name}={value}" for name, value in values.items()]
    # The environment's other settings of a server are left out: they are not needed, and may be invalid.
    own = {"ENGINE", *(option.environment for each in engines.plugins.values() for option in each.options)}
    kept = {name: value for name, value in environ.items() if name in own}
    return config.parse(flags, kept, engines), Path(paths[0])
