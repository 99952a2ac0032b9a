"""`ratus topics`: list the topics and how many tasks each has in which state."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Final

from ratus.client import Client
from ratus.commands.output import json_line, topic_table, wants_table
from ratus.commands.remote import Parser, run
from ratus.errors import BadRequest, NotFound
from ratus.models import Topic

_DESCRIPTION: Final = "Lists the topics, and how many tasks each of them has in which state."

_EXAMPLES: Final = """\
  ratus topics
  ratus topics mail news --output json"""

_PAGE: Final = 100


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 with a list, even an empty one; 1 for a refusal, 2 for wrong arguments."""
    parser = Parser("topics", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="only these")
    return run(parser, _topics, arguments)


def _topics(client: Client, given: argparse.Namespace) -> int:
    found = list(counted_topics(client, given.topics))
    if wants_table(given.output):
        print(*topic_table(found), sep="\n")
    else:
        for topic in found:
            print(json_line(topic.to_wire()))
    return 0


def counted_topics(client: Client, names: Sequence[str]) -> Iterator[Topic]:
    """These topics, by default all, with their counts. One that is gone meanwhile is left out."""
    for name in names or _all_names(client):
        try:
            yield client.get_topic(name)
        except NotFound:
            if names:
                yield Topic(name=name, count=0)


def _all_names(client: Client) -> list[str]:
    names: list[str] = []
    while True:
        try:
            page = client.list_topics(limit=_PAGE, offset=len(names))
        except BadRequest:
            if not names:
                raise
            return names  # further than the server lets anybody look
        names += [topic.name for topic in page]
        if len(page) < _PAGE:
            return names
