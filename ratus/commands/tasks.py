"""`ratus tasks`: list the tasks of a topic."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Final

from ratus.client import Client
from ratus.commands.labels import labels_of, read_label
from ratus.commands.output import show_tasks, wants_table
from ratus.commands.remote import STATES, Parser, UsageProblem, read_state, run
from ratus.core.models import TaskState

_DESCRIPTION: Final = """\
Lists the tasks of a topic in order of creation. As JSON, each is on a line of its
own, whole, as "ratus push" takes it. With --state active the table shows who holds
each task, since when, and until when."""

_EXAMPLES: Final = """\
  ratus tasks mail
  ratus tasks resize --label customer=acme --label region=eu
  ratus tasks mail --state archived --outcome failed      (the dead letters)
  ratus tasks mail --all --output json > mail.ndjson"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 with a list, even an empty one; 1 for a refusal, 2 for wrong arguments."""
    parser = Parser("tasks", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topic", metavar="TOPIC", help="whose tasks")
    parser.add_argument("--state", type=read_state, metavar="STATE", help=f"only {', '.join(STATES)}")
    parser.add_argument(
        "--outcome", choices=("failed", "expired"), help="only those set aside for this reason"
    )
    parser.add_argument("--producer", metavar="NAME", help="only those made by NAME")
    parser.add_argument("--consumer", metavar="NAME", help="only those claimed last by NAME")
    parser.add_argument(
        "--label",
        type=read_label,
        action="append",
        metavar="NAME=VALUE",
        help="only those with this label; given again: only those with all of these",
    )
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; default: 100")
    how_many.add_argument("--all", action="store_true", help="all of them")
    return run(parser, _tasks, arguments)


def _tasks(client: Client, given: argparse.Namespace) -> int:
    if not 1 <= given.limit <= sys.maxsize:
        raise UsageProblem("--limit: at least 1; --all shows all of them")
    if not given.topic:
        raise UsageProblem("TOPIC: it must not be empty")
    tasks = client.iter_tasks(
        given.topic,
        state=given.state,
        outcome=given.outcome,
        producer=given.producer,
        consumer=given.consumer,
        labels=labels_of(given.label),
    )
    shown = tasks if given.all else islice(tasks, given.limit)
    count = show_tasks(shown, as_table=wants_table(given.output), claims=given.state is TaskState.ACTIVE)
    if not given.all and count == given.limit and next(tasks, None) is not None:
        print(f"ratus tasks: there are more than {count:,}; --all shows all of them", file=sys.stderr)
    return 0
