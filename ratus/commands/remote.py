"""What the commands that talk to a server have in common: flags, connection, errors and exit codes."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Final, NoReturn

from ratus.calls.address import DEFAULT_URL
from ratus.client import Client
from ratus.core.errors import Forbidden, RatusError, Unauthorized
from ratus.core.models import TaskState
from ratus.core.models.json_values import MAX_DEPTH
from ratus.core.quoting import printable, quoted

EXIT_FAILURE: Final = 1
EXIT_USAGE: Final = 2
EXIT_NOTHING: Final = 3
"""Nothing was due: distinct from a failure, so that scripts can loop until there is nothing left."""

STATES: Final = {state.name.lower(): state for state in TaskState}

_COMMON: Final = """\
The server is that of --url, else of the environment variable RATUS_URL, else
{default}. A token is given by RATUS_TOKEN, or by --token, which
others on the machine can see. Exit codes: 0 done, 1 the server refused or was
not reached, 2 wrong arguments{more}."""


_HINTS: Final[dict[type[RatusError], str]] = {
    Unauthorized: "; give a token of the server by RATUS_TOKEN",
    Forbidden: "; the token is that of RATUS_TOKEN or --token",
}


def about_the_server(exit_codes: str = "") -> str:
    """The part of every help that says where the server is, and what exit codes mean."""
    return _COMMON.format(default=DEFAULT_URL, more=exit_codes)


class Problem(Exception):
    """What went wrong, for the user, in one line."""


class Parser(argparse.ArgumentParser):
    """Parses the flags of one command and those that all have. Raises `UsageProblem` for wrong ones."""

    def __init__(self, name: str, description: str, examples: str, *, exit_codes: str = "") -> None:
        common = about_the_server(exit_codes)
        super().__init__(
            prog=f"ratus {name}",
            description=f"{description}\n\n{common}",
            epilog=f"Examples:\n{examples}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument("--url", metavar="URL", help="where the server is [RATUS_URL]")
        self.add_argument("--token", metavar="TOKEN", help="a token of the server [RATUS_TOKEN]")
        self.add_argument(
            "--output",
            choices=("json", "table"),
            help="a table for people, or one JSON object on each line; default: a table on a terminal",
        )

    def error(self, message: str) -> NoReturn:
        """Refuse the command line."""
        raise UsageProblem(message)


class UsageProblem(Problem):
    """The command line is wrong."""


def run(parser: Parser, work: Callable[[Client, argparse.Namespace], int], arguments: Sequence[str]) -> int:
    """Read the flags and call `work` with a client; return the exit code. Raises only `KeyboardInterrupt`."""
    try:
        _check_streams()
        given = parser.parse_args([_text(argument) for argument in arguments])
        try:
            client = Client(given.url or None, token=given.token)
        except ValueError as error:
            raise UsageProblem(str(error)) from None
        with client:
            code = work(client, given)
        sys.stdout.flush()
    except SystemExit as done:  # argparse has shown the help
        return int(done.code or 0)
    except UsageProblem as problem:
        return _complain(parser, f"{problem} (see {parser.prog} --help)", EXIT_USAGE)
    except Problem as problem:
        return _complain(parser, str(problem), EXIT_FAILURE)
    except RatusError as error:
        return _complain(parser, f"{error}{_HINTS.get(type(error), '')}", EXIT_FAILURE)
    except BrokenPipeError:
        # The program that reads the output has closed it, as `head` does.
        forget_output()
        return 0
    except OSError as error:
        forget_output()
        reason = (error.strerror or str(error)).lower()
        return _complain(parser, f"standard input or output: {reason}", EXIT_FAILURE)
    except ValueError as error:  # the client refuses what the user gave before it sends anything
        return _complain(parser, f"{first_fault(error)} (see {parser.prog} --help)", EXIT_USAGE)
    return code


def _check_streams() -> None:
    """Make the output streams writable. Raises `Problem` when standard output is closed.

    A command whose output would be lost must not begin.
    """
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    if sys.stdout is None:
        raise Problem("standard output is closed, so that nothing could be shown")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A character that the stream's encoding does not have is written as its number.
            stream.reconfigure(errors="backslashreplace")


def forget_output() -> None:
    """Drop what is left in the buffer: writing it would fail once more at exit, with a traceback."""
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), sys.stdout.fileno())


def _text(argument: str) -> str:
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise UsageProblem(f"the argument {quoted(argument)} is not UTF-8") from None
    return argument


def _complain(parser: Parser, message: str, code: int) -> int:
    with contextlib.suppress(OSError):
        print(f"{parser.prog}: {printable(message)}", file=sys.stderr, flush=True)
    return code


# ---- reading --------------------------------------------------------------------------------------


def read_json(text: str, name: str) -> Any:
    """The JSON value of a flag; `-` stands for standard input. `null` is no value."""
    try:
        if text == "-":
            text = standard_input().read().decode()
        value = json.loads(text, parse_constant=_no_constant)
    except RecursionError:
        raise UsageProblem(f"{name}: nested too deeply; at most {MAX_DEPTH} levels are taken") from None
    except ValueError as error:
        hint = "" if text[:1] in '{["' else f"; a text stands in quotes, as in {name} '\"hello\"'"
        raise UsageProblem(f"{name}: not JSON: {error}{hint}") from None
    if value is None:
        raise UsageProblem(f"{name}: null is no value; leave the flag out")
    return value


def standard_input() -> BinaryIO:
    """The bytes of standard input. Raises `UsageProblem` when it is closed."""
    if sys.stdin is None:
        raise UsageProblem("standard input is closed")
    return sys.stdin.buffer


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def read_state(text: str) -> TaskState:
    """A state by its name or number, for argparse."""
    try:
        return STATES[text] if text in STATES else TaskState(int(text))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not one of {', '.join(STATES)}") from None


def given_value(call: Callable[[], Any]) -> Any:
    """The value of a call on what the user gave. Raises `UsageProblem` in place of a `ValueError`."""
    try:
        return call()
    except ValueError as error:
        raise UsageProblem(first_fault(error)) from None


def first_fault(error: ValueError) -> str:
    """A `ValueError` in one line; of pydantic's, the first thing that was wrong and where."""
    errors = getattr(error, "errors", None)
    if errors is None:
        return str(error)
    first = errors()[0]
    message = str(first["msg"].removeprefix("Value error, "))
    place = ".".join(str(part) for part in first["loc"])
    return f"{place}: {message}" if place else message
