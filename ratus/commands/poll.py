"""`ratus poll`: claim tasks and show them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Final

from ratus.client import Client, Delivery
from ratus.commands.labels import add_choice, choice_of
from ratus.commands.output import json_line, wants_table
from ratus.commands.remote import EXIT_NOTHING, Parser, Problem, forget_output, given_value, run
from ratus.core.errors import RatusError
from ratus.core.quoting import quoted

_DESCRIPTION: Final = """\
Claims the next task that is due and shows it. Of several topics, one is only looked
into while none before it has a task that is due. The claim lapses unless the task is
committed in time: "ratus commit ID --nonce NONCE"."""

_EXAMPLES: Final = """\
  ratus poll mail --timeout 5m
  ratus poll resize --where region=eu --where region=us
  ratus poll resize --prefer customer,user --limit 10
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
    add_choice(parser)
    return run(parser, _poll, arguments)


def _poll(client: Client, given: argparse.Namespace) -> int:
    deliveries = given_value(
        lambda: client.poll_many(
            given.topics,
            given.limit,
            timeout=given.timeout,
            wait=given.wait,
            consumer=given.consumer,
            **choice_of(given),
        )
    )
    if not deliveries:
        return EXIT_NOTHING
    as_table = wants_table(given.output)
    for place, delivery in enumerate(deliveries):
        try:
            print(_lines(delivery) if as_table else json_line(delivery.task.to_wire()), flush=True)
        except BaseException as error:
            given_back = _give_back(deliveries[place:])
            if isinstance(error, OSError):
                forget_output()
                raise Problem(f"the output cannot be written; {given_back}") from None
            raise
    return 0


def _lines(delivery: Delivery) -> str:
    return (
        f"{delivery.id!r} in {delivery.topic!r}, attempt {delivery.attempts}\n"
        f"  until    {delivery.deadline}\n"
        f"  payload  {json_line({'': delivery.payload})[4:-1]}\n"
        f"  nonce    {delivery.nonce}"
    )


def _give_back(deliveries: Sequence[Delivery]) -> str:
    """Release claims that were not shown: without their nonces nothing could be done with them."""
    kept = []
    for delivery in deliveries:
        try:
            delivery.release()
        except RatusError:
            kept.append(delivery.id)
    if kept:
        return f"claims that could not be given back lapse at their deadline: {', '.join(map(quoted, kept))}"
    return f"{len(deliveries)} claims were given back" if len(deliveries) > 1 else "the claim was given back"
