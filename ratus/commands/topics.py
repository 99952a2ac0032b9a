"""`ratus topics`: list the topics and how many tasks each has in which state; `limit` and `lanes` of one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import Final

from ratus.client import Client
from ratus.commands import lanes, limits
from ratus.commands.output import json_line, topic_table, wants_table
from ratus.commands.remote import Parser, UsageProblem, run
from ratus.core.errors import BadRequest, NotFound
from ratus.core.models import Topic

_DESCRIPTION: Final = """\
Lists the topics, how many tasks each of them has in which state, and why it is
closed, if it hands out nothing. Two commands are about one topic, each with a --help
of its own:

  ratus topics limit TOPIC    show, replace or clear its limits
  ratus topics lanes TOPIC    list the values of a label, with their tasks"""

_EXAMPLES: Final = """\
  ratus topics
  ratus topics mail news --output json
  ratus topics limit resize --per customer --per-concurrency 2
  ratus topics -- limit              (the counts of a topic that is called limit)"""

_PARTS: Final = {"limit": limits.main, "lanes": lanes.main}
"""What is done with one topic, by the word behind `ratus topics`."""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 with a list, even an empty one; 1 for a refusal, 2 for wrong arguments."""
    if arguments and arguments[0] in _PARTS:
        return _PARTS[arguments[0]](arguments[1:])
    parser = Parser("topics", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="only these")
    return run(parser, _topics, arguments)


def _topics(client: Client, given: argparse.Namespace) -> int:
    found, more = counted_topics(client, given.topics)
    if wants_table(given.output):
        print(*topic_table(found), sep="\n")
    else:
        for topic in found:
            print(json_line(topic.to_wire()))
    if more:
        print(f"ratus topics: {more}", file=sys.stderr)
    return 0


def counted_topics(client: Client, given: Sequence[str]) -> tuple[list[Topic], str]:
    """The topics that were named, by default all, with their counts; those that do not exist are empty.

    Returns also a message if the server does not list them all.
    """
    if given:
        if not all(given):
            raise UsageProblem("TOPIC: it must not be empty")
        return [_counted(client, name) for name in given], ""
    found: list[Topic] = []
    try:
        for topic in client.iter_topics(details=True):
            # A server of version 0.1 gives only the name.
            found.append(topic if topic.count is not None else _counted(client, topic.name))  # noqa: PERF401
    except BadRequest:
        if not found:
            raise
        return found, f"there are more than {len(found):,} topics, which the server does not list; name them"
    return found, ""


def _counted(client: Client, name: str) -> Topic:
    try:
        return client.get_topic(name)
    except NotFound:
        return Topic(name=name, count=0)
