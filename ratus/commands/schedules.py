"""`ratus schedules`: look at schedules, change them, and bring a server to a file of them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final

from ratus.client import Client
from ratus.commands.actions import run_action
from ratus.commands.output import json_line, table, wants_table
from ratus.commands.remote import Parser, Problem, UsageProblem, given_value, read_json, run, standard_input
from ratus.core.errors import NotFound
from ratus.core.models import Schedule
from ratus.core.quoting import quoted

_ABOUT: Final = """\
A schedule makes a task at each of its ticks: by a cron expression in a time zone,
or by an interval."""

_EXAMPLES: Final = """\
  ratus schedules set nightly reports --cron '30 2 * * *' --zone Europe/Berlin
  ratus schedules sync schedules.yaml --dry-run"""

_FROM_SERVER: Final = ("next", "last")
"""Members that a file may have because `ratus schedules list` shows them, and that the server keeps."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when it is done, 1 when the server refused, 2 for wrong arguments."""
    actions = {
        "list": ("list schedules by name", _list),
        "show": ("one schedule, its next five runs, and its expression in words", _show),
        "set": ("make a schedule, or replace it", _set),
        "delete": ("delete schedules", _of_names("delete", "Deletes schedules; their tasks stay.", _delete)),
        "pause": ("pause schedules", _of_names("pause", "Schedules make no tasks until resumed.", _pause)),
        "resume": ("let schedules go on", _of_names("resume", "Lets paused schedules go on.", _resume)),
        "run": ("make a task now", _of_names("run", "Makes a task now; prints its id.", _run)),
        "sync": ("bring the server to the schedules of a file", _sync),
    }
    return run_action("schedules", _ABOUT, _EXAMPLES, actions, arguments)


# ---- looking --------------------------------------------------------------------------------------


def _list(arguments: Sequence[str]) -> int:
    parser = Parser(
        "schedules list",
        'Lists schedules in order of their names. As JSON, the lines are what\n"ratus schedules sync" takes.',
        "  ratus schedules list\n  ratus schedules list --output json > schedules.ndjson",
    )
    return run(parser, _list_schedules, arguments)


def _list_schedules(client: Client, given: argparse.Namespace) -> int:
    schedules = client.iter_schedules()
    if not wants_table(given.output):
        for schedule in schedules:
            print(json_line(schedule.to_wire()))
        return 0
    rows = []
    for schedule in schedules:
        wire = schedule.to_wire()
        last = wire.get("last", {}).get("_id", "")
        when = wire.get("cron") or f"every {wire['every']}"
        rows.append((schedule.name, schedule.topic, when, wire.get("next", ""), last, schedule.paused))
    print(*table(("NAME", "TOPIC", "WHEN", "NEXT", "LAST", "PAUSED"), rows), sep="\n")
    return 0


def _show(arguments: Sequence[str]) -> int:
    parser = Parser(
        "schedules show",
        "Shows a schedule, its expression in words and its next five runs.",
        "  ratus schedules show nightly",
    )
    parser.add_argument("name", metavar="NAME", help="of the schedule")
    return run(parser, _show_schedule, arguments)


def _show_schedule(client: Client, given: argparse.Namespace) -> int:
    schedule = _known(given.name, lambda: client.get_schedule(given.name))
    if not wants_table(given.output):
        print(json_line(schedule.to_wire()))
        return 0
    preview = client.preview_schedule(schedule)
    wire = schedule.to_wire()
    last = wire.pop("last", {})
    lines = [f"{name}: {_text(value)}" for name, value in wire.items() if name != "next"]
    lines.append(f"in words: {preview.words}")
    if last:
        lines.append(f"last: {' '.join(str(value) for value in last.values())}")
    ticks = preview.to_wire()["ticks"]
    lines.append("paused: no runs" if schedule.paused else "next runs:" if ticks else "no run any more")
    lines += [] if schedule.paused else [f"  {tick}" for tick in ticks]
    print(*lines, sep="\n")
    return 0


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


# ---- changing -------------------------------------------------------------------------------------


def _set(arguments: Sequence[str]) -> int:
    parser = Parser(
        "schedules set",
        "Makes a schedule, or replaces the one of its name, and shows its next runs.",
        "  ratus schedules set nightly reports --cron '30 2 * * *' --zone Europe/Berlin\n"
        "  ratus schedules set poll feeds --every 15m --overlap skip --task '{\"payload\": 1}'",
    )
    parser.add_argument("name", metavar="NAME", help="of the schedule")
    parser.add_argument("topic", metavar="TOPIC", help="of its tasks")
    parser.add_argument("--cron", default="", metavar="EXPRESSION", help="when, as in a crontab")
    parser.add_argument("--zone", default="", metavar="ZONE", help="of --cron; default: UTC")
    parser.add_argument("--every", metavar="DURATION", help="how often, in place of --cron")
    parser.add_argument("--start", metavar="TIME", help="no run before")
    parser.add_argument("--end", metavar="TIME", help="no run after")
    parser.add_argument(
        "--task", metavar="JSON", help="payload, priority, retry, ttl and producer of its tasks"
    )
    parser.add_argument("--overlap", choices=("allow", "skip"), default="allow", help="default: allow")
    parser.add_argument("--catch-up", choices=("last", "all"), default="last", help="default: last")
    parser.add_argument("--paused", action="store_true", help="not before it is resumed")
    return run(parser, _set_schedule, arguments)


def _set_schedule(client: Client, given: argparse.Namespace) -> int:
    names = ("name", "topic", "cron", "zone", "every", "start", "end", "overlap", "catch_up", "paused")
    members = {name: getattr(given, name) for name in names}
    members["task"] = None if given.task is None else read_json(given.task, "--task")
    schedule = client.put_schedule(given_value(lambda: Schedule.model_validate(members)))
    if wants_table(given.output):
        preview = client.preview_schedule(schedule)
        print(preview.words, *(f"  {tick}" for tick in preview.to_wire()["ticks"]), sep="\n")
    else:
        print(json_line(schedule.to_wire()))
    return 0


def _of_names(
    action: str, description: str, act: Callable[[Client, str], str]
) -> Callable[[Sequence[str]], int]:
    """An action on each of the schedules that are named."""

    def work(client: Client, given: argparse.Namespace) -> int:
        for name in given.names:
            text = _known(name, lambda name=name: act(client, name))  # type: ignore[misc]
            if text:
                print(text)
        return 0

    def main(arguments: Sequence[str]) -> int:
        parser = Parser(f"schedules {action}", description, f"  ratus schedules {action} nightly")
        parser.add_argument("names", metavar="NAME", nargs="+", help="of a schedule")
        return run(parser, work, arguments)

    return main


def _delete(client: Client, name: str) -> str:
    if not client.delete_schedule(name):
        raise NotFound
    return ""


def _pause(client: Client, name: str) -> str:
    client.patch_schedule(name, paused=True)
    return ""


def _resume(client: Client, name: str) -> str:
    client.patch_schedule(name, paused=False)
    return ""


def _run(client: Client, name: str) -> str:
    return client.run_schedule(name)


def _known(name: str, call: Callable[[], Any]) -> Any:
    try:
        return call()
    except NotFound:
        raise Problem(f"there is no schedule {quoted(name)}") from None


# ---- a file of schedules --------------------------------------------------------------------------


def _sync(arguments: Sequence[str]) -> int:
    parser = Parser(
        "schedules sync",
        "Brings the server to the schedules of a file: makes those it lacks, changes those\n"
        "that differ, and leaves the others. The file is JSON, JSON lines or YAML: a list of\n"
        'schedules with their "name", or an object of schedules by name.',
        "  ratus schedules sync schedules.yaml --dry-run\n  ratus schedules sync schedules.yaml --prune",
    )
    parser.add_argument("file", metavar="FILE", help="-: standard input")
    parser.add_argument("--prune", action="store_true", help="delete schedules that the file lacks")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return run(parser, _sync_schedules, arguments)


def _sync_schedules(client: Client, given: argparse.Namespace) -> int:
    wanted = read_schedules(given.file)
    there = {schedule.name: schedule for schedule in client.iter_schedules()}
    # All of them are checked before the first is changed.
    for schedule in wanted.values():
        client.preview_schedule(schedule)
    counts = {"made": 0, "changed": 0, "deleted": 0, "same": 0}

    def note(what: str, name: str) -> None:
        counts[what] += 1
        if what != "same":
            print(f"{'would be ' if given.dry_run else ''}{what}: {name}")

    for name, schedule in wanted.items():
        old = there.get(name)
        if old is not None and _definition(old) == _definition(schedule):
            note("same", name)
            continue
        if not given.dry_run:
            client.put_schedule(schedule)
        note("made" if old is None else "changed", name)
    for name in there.keys() - wanted.keys() if given.prune else ():
        if not given.dry_run:
            client.delete_schedule(name)
        note("deleted", name)
    print(", ".join(f"{count} {what}" for what, count in counts.items()))
    return 0


def _definition(schedule: Schedule) -> dict[str, Any]:
    return {name: value for name, value in schedule.to_wire().items() if name not in _FROM_SERVER}


def read_schedules(file: str) -> dict[str, Schedule]:
    """The schedules of a file by name. Raises `Problem` naming the one that is wrong."""
    try:
        text = standard_input().read().decode() if file == "-" else Path(file).read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it is not a text in UTF-8"
        raise Problem(f"cannot read {file}: {reason}") from None
    found: dict[str, Schedule] = {}
    for members in _each(_parsed(text, file), file):
        name = members.get("name")
        where = f"{file}: schedule {quoted(str(name))}"
        if not name or not isinstance(name, str):
            raise Problem(f"{file}: a schedule without a name")
        if name in found:
            raise Problem(f"{where} stands twice")
        kept = {key: value for key, value in members.items() if key not in _FROM_SERVER}
        try:
            found[name] = given_value(lambda kept=kept: Schedule(**kept))  # type: ignore[misc]
        except UsageProblem as problem:
            raise Problem(f"{where}: {problem}") from None
    return found


def _parsed(text: str, file: str) -> Any:
    if file.endswith((".yaml", ".yml")):
        try:
            import yaml
        except ImportError:
            raise Problem("a file of YAML needs the package pyyaml; install it, or give JSON") from None
        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise Problem(f"{file}: {' '.join(str(error).split())}") from None
    try:
        return json.loads(text)
    except ValueError as error:
        try:
            return [json.loads(line) for line in text.splitlines() if line.strip()]
        except ValueError:
            raise Problem(f"{file}: not JSON: {error}") from None


def _each(value: Any, file: str) -> Iterable[dict[str, Any]]:
    if isinstance(value, dict) and "topic" in value:
        value = [value]  # a single line of "ratus schedules list"
    elif isinstance(value, dict):
        value = [
            {"name": name, **members} if isinstance(members, dict) else members
            for name, members in value.items()
        ]
    if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
        raise Problem(f"{file}: give a list of schedules, or an object of schedules by name")
    return value
