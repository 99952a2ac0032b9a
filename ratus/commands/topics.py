"""`ratus topics`: list the topics and how many tasks each has in which state; `limit` and `lanes` of one."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
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
    names, more = topic_names(client, given.topics)
    found = list(counted_topics(client, names, missing=bool(given.topics)))
    if wants_table(given.output):
        print(*topic_table(found), sep="\n")
    else:
        for topic in found:
            print(json_line(topic.to_wire()))
    if more:
        print(f"ratus topics: {more}", file=sys.stderr)
    return 0


def topic_names(client: Client, given: Sequence[str]) -> tuple[Sequence[str], str]:
    """The topics that were named, by default all; and a message if the server does not list them all."""
    if given:
        if not all(given):
            raise UsageProblem("TOPIC: it must not be empty")
        return given, ""
    names: list[str] = []
    try:
        names.extend(topic.name for topic in client.iter_topics())
    except BadRequest:
        if not names:
            raise
        return names, f"there are more than {len(names):,} topics, which the server does not list; name them"
    return names, ""


def counted_topics(client: Client, names: Sequence[str], *, missing: bool) -> Iterator[Topic]:
    """These topics with their counts. One that does not exist is left out, or given as empty if `missing`."""
    for name in names:
        try:
            yield client.get_topic(name)
        except NotFound:
            if missing:
                yield Topic(name=name, count=0)
