"""`ratus values`: read, set, delete, list and watch the values that clients share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, Final

from ratus.client import Client
from ratus.commands.actions import run_action
from ratus.commands.output import json_line, table, wants_table
from ratus.commands.remote import Parser, Problem, UsageProblem, run, standard_input
from ratus.core.errors import NotFound
from ratus.core.models import Value
from ratus.core.quoting import quoted

_ABOUT: Final = """\
Small JSON that clients share under a name: a switch, a cursor, a configuration
that workers watch."""

_EXAMPLES: Final = """\
  ratus values set feature/dark true
  ratus values watch --prefix feature/"""

_SHOWN: Final = 60
"""Characters of a value that a table shows."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when it is done, 1 when the server refused, 2 for wrong arguments."""
    actions = {
        "list": ("list values by name", _list),
        "get": ("print one value", _get),
        "set": ("set a value", _set),
        "delete": ("delete a value", _delete),
        "watch": ("print values, and each change of them", _watch),
    }
    return run_action("values", _ABOUT, _EXAMPLES, actions, arguments)


def _list(arguments: Sequence[str]) -> int:
    parser = Parser(
        "values list",
        "Lists values in order of their names.",
        "  ratus values list\n  ratus values list feature/ --output json",
    )
    parser.add_argument(
        "prefix", metavar="PREFIX", nargs="?", default="", help="only those whose names begin so"
    )
    parser.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; default: 100")
    parser.add_argument("--all", action="store_true", help="all of them")
    return run(parser, _list_values, arguments)


def _list_values(client: Client, given: argparse.Namespace) -> int:
    if not 1 <= given.limit <= sys.maxsize:
        raise UsageProblem("--limit: at least 1; --all shows all of them")
    values = client.iter_values(given.prefix)
    count = _show(values if given.all else islice(values, given.limit), given.output)
    if not given.all and count == given.limit and next(values, None) is not None:
        print(f"ratus values: there are more than {count:,}; --all shows all of them", file=sys.stderr)
    return 0


def _get(arguments: Sequence[str]) -> int:
    parser = Parser(
        "values get",
        "Prints a value as JSON on one line; with --output json the value with its\nrevision and its time.",
        "  ratus values get feature/dark",
    )
    parser.add_argument("name", metavar="NAME", help="of the value")
    return run(parser, _get_value, arguments)


def _get_value(client: Client, given: argparse.Namespace) -> int:
    try:
        value = client.get_value(given.name)
    except NotFound:
        raise Problem(f"there is no value {quoted(given.name)}") from None
    print(json_line(_wire(value)) if given.output == "json" else _text(value.value))
    return 0


def _set(arguments: Sequence[str]) -> int:
    parser = Parser(
        "values set",
        "Sets a value, and prints its revision. With --if-revision it is set only if it\n"
        "has that revision still; 0: only if there is none.",
        "  ratus values set feature/dark true\n"
        "  ratus values set config '{\"batch\": 100}' --if-revision 1800000000000000\n"
        "  ratus values set config - < config.json",
    )
    parser.add_argument("name", metavar="NAME", help="of the value")
    parser.add_argument("value", metavar="JSON", help="any JSON; -: from standard input")
    _add_revision(parser)
    return run(parser, _set_value, arguments)


def _set_value(client: Client, given: argparse.Namespace) -> int:
    text = standard_input().read().decode() if given.value == "-" else given.value
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageProblem(f"""JSON: {error}; a text stands in quotes, as in '"hello"'""") from None
    written = client.set_value(given.name, value, if_revision=given.if_revision)
    print(json_line(_wire(written)) if given.output == "json" else written.revision)
    return 0


def _delete(arguments: Sequence[str]) -> int:
    parser = Parser("values delete", "Deletes a value.", "  ratus values delete feature/dark")
    parser.add_argument("name", metavar="NAME", help="of the value")
    _add_revision(parser)
    return run(parser, _delete_value, arguments)


def _delete_value(client: Client, given: argparse.Namespace) -> int:
    if not client.delete_value(given.name, if_revision=given.if_revision):
        raise Problem(f"there is no value {quoted(given.name)}")
    return 0


def _watch(arguments: Sequence[str]) -> int:
    parser = Parser(
        "values watch",
        "Prints values as they are, and then each change of them, until Ctrl-C: one JSON\n"
        "object on each line. Of several quick changes only the last may be shown.",
        "  ratus values watch feature/dark feature/light\n  ratus values watch --prefix feature/",
    )
    parser.add_argument("names", metavar="NAME", nargs="*", help="which values")
    parser.add_argument("--prefix", metavar="PREFIX", help="those whose names begin so")
    parser.add_argument(
        "--since", type=int, default=0, metavar="N", help="only what has a larger revision; default: 0"
    )
    return run(parser, _watch_values, arguments)


def _watch_values(client: Client, given: argparse.Namespace) -> int:
    for value in client.watch_values(given.names or None, prefix=given.prefix, since=given.since):
        print(json_line(_wire(value)), flush=True)
    return 0


def _add_revision(parser: Parser) -> None:
    parser.add_argument(
        "--if-revision", type=int, metavar="N", help="only if it has this revision; 0: if there is none"
    )


def _wire(value: Value) -> dict[str, Any]:
    members = value.to_wire()
    if not value.deleted:
        members.setdefault("value", None)  # null is a value
    return members


def _show(values: Iterable[Value], output: str | None) -> int:
    """Print values; return how many there were."""
    count = 0
    rows = []
    as_table = wants_table(output)
    for value in values:
        count += 1
        if as_table:
            updated = "" if value.updated is None else value.to_wire()["updated"]
            rows.append((value.name, value.revision, updated, _text(value.value)[:_SHOWN]))
        else:
            print(json_line(_wire(value)))
    if as_table:
        print(*table(("NAME", "REVISION", "UPDATED", "VALUE"), rows), sep="\n")
    return count


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
