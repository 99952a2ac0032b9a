"""The `ratus` command: which subcommand runs, and the message when it cannot."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Final, TextIO

from ratus import __version__
from ratus.commands import CLIENT_COMMANDS, client_command
from ratus.commands.backup import backup
from ratus.core.errors import StartupError
from ratus.core.log_fields import fields
from ratus.core.quoting import printable, quoted
from ratus.engine.discovery import Catalogue, PluginError
from ratus.runtime import config, logs

# As shells count: 2 for a command that was given wrongly, 128 and the number of the signal that ended it.
EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_INTERRUPTED: Final = 130

_USAGE: Final = "ratus [serve] [--flag VALUE ...]"

_DESCRIPTION: Final = """\
Serves the Ratus task queue over HTTP: producers push tasks into topics, consumers
make a promise to run one before a deadline, and commit the outcome.

Every flag can also be given as the environment variable named behind it; a flag
wins. Durations are written like 300ms, 1.5s or 1h30m.

  -h, --help            show this help
  --version             show the version

Other commands, each with a --help of its own:
  backup                copy the data of an engine, while it is used
  worker                run the task functions of an app
""" + "\n".join(f"  {name:21} {what}" for name, what in CLIENT_COMMANDS.items())

_EXAMPLES: Final = """\
Examples:
  Serve on port 8000 of this machine only, and keep the tasks in a file:
    ratus --bind 127.0.0.1 --port 8000 --memdb-snapshot-path ratus.snapshot
  Push a task:
    curl -X POST http://127.0.0.1:8000/v1/topics/mail/tasks/1 -d '{"payload": "hello"}'
  Claim the next one, for ten minutes (the answer holds its nonce):
    curl -X POST http://127.0.0.1:8000/v1/topics/mail/promises -d '{"timeout": "10m"}'
  Say that it is done:
    curl -X PATCH http://127.0.0.1:8000/v1/topics/mail/tasks/1 -d '{"nonce": "NONCE"}'
  Read the whole API in a browser: http://127.0.0.1:8000/"""

Command = Callable[[Sequence[str]], int]
"""A subcommand: it receives the arguments behind its name and returns the exit code."""

_logger: Final = logging.getLogger("ratus")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv` (by default the process's own) and return the exit code."""
    _open_standard_streams()
    arguments = list(sys.argv[1:] if argv is None else argv)
    command: Command = serve
    if arguments and not arguments[0].startswith("-"):
        name = arguments.pop(0)
        if name not in COMMANDS:
            known = ", ".join(COMMANDS)
            return _refuse(f"unknown command {quoted(name)}: the commands are {known}")
        command = COMMANDS[name]
    try:
        return command(arguments)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED


def serve(arguments: Sequence[str]) -> int:
    """Serve until a signal says to stop; exit code 0 after an orderly stop, 2 for wrong settings."""
    if "--version" in arguments:
        return _say(sys.stdout, f"ratus {__version__}")
    engines = config.catalogue()
    if "--help" in arguments or "-h" in arguments:
        _complain(engines)
        return _say(sys.stdout, help_text(engines))
    try:
        settings = config.parse(arguments, os.environ, engines)
    except config.UsageError as error:
        _complain(engines, besides=str(error))
        return _refuse(str(error))
    logs.configure(settings.log_format, settings.log_level)
    for problem in engines.problems.values():
        _logger.warning("%s", problem)
    _logger.debug("settings", extra=fields(**config.describe(settings, engines)))
    try:
        return _run(settings)
    except Exception:
        _logger.critical("stopped by an unexpected error", exc_info=True)
        return EXIT_FAILURE


def help_text(engines: Catalogue) -> str:
    """What `ratus --help` says: every option with its environment variable and default, and examples."""
    parser = config.flag_parser(
        config.groups(engines.plugins.values()),
        usage=_USAGE,
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser.format_help().rstrip()


COMMANDS: Final[dict[str, Command]] = {
    "serve": serve,
    "backup": backup,
    "worker": client_command("worker"),
    **{name: client_command(name) for name in CLIENT_COMMANDS},
}
"""Every subcommand by its name."""


def _run(settings: config.Settings) -> int:
    # Imported here because a help text or a usage error should not wait for the whole server to load.
    from ratus.runtime import gc_tuning
    from ratus.runtime.app import build, limits
    from ratus.server.lifecycle import run
    from ratus.server.listener import is_loopback

    try:
        app, service = build(settings, trim=gc_tuning.Trim())
    except (PluginError, ValueError, OSError) as error:
        # A setting that turned out to be wrong when it was used: the reason is enough for the operator.
        _logger.error("%s", error)
        _logger.debug("where this was found", exc_info=True)
        return EXIT_USAGE
    except StartupError as error:
        _logger.error("%s", error)
        return EXIT_FAILURE
    if service.engine.traits.immediate:  # it has its tasks in memory
        gc_tuning.tune_collector()
    logs.catch_stray_errors()
    about = f"(engine {settings.engine}, version {__version__})"

    def ready(address: str) -> None:
        doing = f"serving on {address}" if address else "doing chores only, no API"
        _logger.info("%s %s", doing, about)
        if address and not app.tokens and not is_loopback(settings.bind):
            _logger.warning(
                "there are no tokens: every program that can reach %s may change and delete all tasks; set "
                "tokens (--auth-tokens-file, AUTH_TOKENS), or serve this machine alone (--bind 127.0.0.1)",
                address,
            )

    return run(
        app,
        service,
        bind=settings.bind,
        port=settings.port,
        tls_certfile=settings.tls_certfile or None,
        tls_keyfile=settings.tls_keyfile or None,
        shutdown_delay_seconds=settings.shutdown_delay / 1_000_000,
        shutdown_timeout_seconds=settings.shutdown_timeout / 1_000_000,
        limits=limits(settings),
        ready=ready,
    )


def _open_standard_streams() -> None:
    """Open the null device in place of each standard stream that is closed.

    Otherwise the next file or socket would take the stream's number: libuv aborts the process when it closes
    a file of such a number, and what a library writes to standard error would go into a database.
    """
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it takes the lowest number that is free


def _refuse(message: str) -> int:
    _say(sys.stderr, f"ratus: {message} (see ratus --help)")
    return EXIT_USAGE


def _complain(engines: Catalogue, besides: str = "") -> None:
    """Name the engines that cannot be used on standard error, as there is no log yet.

    A problem that the message `besides` holds already is left out.
    """
    for problem in engines.problems.values():
        if str(problem) not in besides:
            _say(sys.stderr, f"ratus: warning: {printable(str(problem))}")


def _say(stream: TextIO | None, text: str) -> int:
    """Write a text and return the exit code: a pipe that its reader closed is no failure, a full disk is."""
    if stream is None:
        return 0
    try:
        print(text, file=stream, flush=True)
    except OSError as error:
        # What is left in the buffer would fail once more at exit, with a traceback and exit code 120.
        with open(os.devnull, "wb") as nothing:
            os.dup2(nothing.fileno(), stream.fileno())
        return 0 if isinstance(error, BrokenPipeError) else EXIT_FAILURE
    return 0
