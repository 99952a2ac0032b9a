"""`ratus poll`: claim tasks and show them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from ratus.client import Client
from ratus.commands.output import json_line, show_tasks, wants_table
from ratus.commands.remote import EXIT_NOTHING, Parser, given_value, run

_DESCRIPTION: Final = """\
Claims the next task that is due and shows it. Of several topics, one is only looked
into while none before it has a task that is due. The claim lapses unless the task is
committed in time: "ratus commit ID --nonce NONCE"."""

_EXAMPLES: Final = """\
  ratus poll mail --timeout 5m
  ratus poll urgent bulk --wait 20s --limit 10 --output json
  while task=$(ratus poll mail --output json); do work "$task"; done"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 with a task, 3 when none was due, 1 for a refusal, 2 for wrong arguments."""
    parser = Parser("poll", _DESCRIPTION, _EXAMPLES, exit_codes=", 3 nothing was due")
    parser.add_argument("topics", metavar="TOPIC", nargs="+", help="where to look, in order of preference")
    parser.add_argument("--timeout", metavar="DURATION", help="how long the claim holds; default: 10m")
    parser.add_argument("--wait", metavar="DURATION", help="wait so long for a task to be due")
    parser.add_argument("--limit", type=int, default=1, metavar="N", help="claim up to so many; default: 1")
    parser.add_argument("--consumer", metavar="NAME", help="who claims; default: the name of this host")
    return run(parser, _poll, arguments)


def _poll(client: Client, given: argparse.Namespace) -> int:
    deliveries = given_value(
        lambda: client.poll_many(
            given.topics, given.limit, timeout=given.timeout, wait=given.wait, consumer=given.consumer
        )
    )
    if not deliveries:
        return EXIT_NOTHING
    if not wants_table(given.output):
        show_tasks((delivery.task for delivery in deliveries), as_table=False)
        return 0
    for delivery in deliveries:
        print(f"{delivery.id!r} in {delivery.topic!r}, attempt {delivery.attempts}")
        print(f"  until    {delivery.deadline}")
        print(f"  payload  {json_line({'': delivery.payload})[4:-1]}")
        print(f"  nonce    {delivery.nonce}")
    return 0
