"""`ratus topics lanes`: list the values of a label that the tasks of a topic have."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import islice
from typing import Final

from ratus.client import Client
from ratus.commands.output import closing, json_line, table, wants_table
from ratus.commands.remote import Parser, UsageProblem, run

_DESCRIPTION: Final = """\
Lists the values of a label that the pending and active tasks of a topic have, and
why and until when each is closed by the topic's limits. The label is that of the
limits per label, unless another is given. Tasks without the label are one value of
their own, shown in the table as -, and as JSON without a value."""

_EXAMPLES: Final = """\
  ratus topics lanes resize
  ratus topics lanes resize --label region --all --output json"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 with a list, even an empty one; 1 for a refusal, 2 for wrong arguments."""
    parser = Parser("topics lanes", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topic", metavar="TOPIC", help="whose tasks")
    parser.add_argument("--label", metavar="LABEL", help="default: that of the topic's limits per label")
    how_many = parser.add_mutually_exclusive_group()
    how_many.add_argument("--limit", type=int, default=100, metavar="N", help="at most so many; default: 100")
    how_many.add_argument("--all", action="store_true", help="all of them")
    return run(parser, _lanes, arguments)


def _lanes(client: Client, given: argparse.Namespace) -> int:
    if not 1 <= given.limit <= sys.maxsize:
        raise UsageProblem("--limit: at least 1; --all shows all of them")
    if not given.topic:
        raise UsageProblem("TOPIC: it must not be empty")
    lanes = client.iter_lanes(given.topic, given.label)
    shown = lanes if given.all else islice(lanes, given.limit)
    count = 0
    if wants_table(given.output):
        rows = [
            ("-" if lane.value is None else lane.value, lane.pending, lane.active, closing(lane))
            for lane in shown
        ]
        print(*table(("VALUE", "PENDING", "ACTIVE", "CLOSED"), rows), sep="\n")
        count = len(rows)
    else:
        for lane in shown:
            print(json_line({"active": 0, "pending": 0} | lane.to_wire()))
            count += 1
    if not given.all and count == given.limit and next(lanes, None) is not None:
        print(f"ratus topics lanes: there are more than {count:,}; --all shows all of them", file=sys.stderr)
    return 0
