"""`ratus topics limit`: show, replace and clear the limits of a topic."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from ratus.client import Client
from ratus.commands.output import closing, json_line, wants_table
from ratus.commands.remote import Parser, Problem, UsageProblem, first_fault, given_value, run
from ratus.core.errors import NotFound
from ratus.core.models import Limits, PerLabel, Rate, Topic
from ratus.core.quoting import printable

_DESCRIPTION: Final = """\
Shows the limits of a topic, or with flags replaces them, all of them: what is not
given is not limited any more. A RATE is a count and a period, such as 100/1m: the
claims are spread evenly, and --burst of them may come at once after a rest. With
--per the topic hands out in turns by the values of a label, and each value has the
limits of --per-…; tasks without the label are one value of their own."""

_EXAMPLES: Final = """\
  ratus topics limit mail                                    (shows them)
  ratus topics limit mail --concurrency 50
  ratus topics limit api --rate 100/1m --burst 10
  ratus topics limit resize --per customer --per-concurrency 2
  ratus topics limit transfers --per account --ordered
  ratus topics limit mail --clear
  ratus topics limit api --lift-holds"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when they are shown or set; 1 for a refusal, 2 for wrong arguments."""
    parser = Parser("topics limit", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topic", metavar="TOPIC", help="whose limits; it need not have tasks yet")
    parser.add_argument("--concurrency", type=int, metavar="N", help="so many tasks are active at a time")
    parser.add_argument("--rate", metavar="RATE", help="so many claims in a period, such as 100/1m")
    parser.add_argument("--burst", type=int, metavar="N", help="claims of the rate saved up; default: 1")
    parser.add_argument("--per", metavar="LABEL", help="turns and limits by the values of this label")
    parser.add_argument("--per-concurrency", type=int, metavar="N", help="active at a time, of each value")
    parser.add_argument("--per-rate", metavar="RATE", help="claims in a period, of each value")
    parser.add_argument("--per-burst", type=int, metavar="N", help="claims saved up, of each value")
    parser.add_argument(
        "--ordered",
        action="store_true",
        help="the tasks of a value one after the other, in order of creation",
    )
    parser.add_argument("--clear", action="store_true", help="take all limits away")
    parser.add_argument("--lift-holds", action="store_true", help="end all holds of the topic and its values")
    return run(parser, _limit, arguments)


def _limit(client: Client, given: argparse.Namespace) -> int:
    if not given.topic:
        raise UsageProblem("TOPIC: it must not be empty")
    limits = _limits_of(given)
    if given.clear and limits is not None:
        raise UsageProblem("--clear takes all limits away; leave it out to set others")
    if given.clear:
        limits = Limits()
    try:
        if limits is None and not given.lift_holds:
            topic = client.get_topic(given.topic)
        else:
            topic = client.patch_topic(given.topic, limits=limits, lift_holds=given.lift_holds)
    except NotFound as error:
        raise Problem(
            f"{error}: there is no topic {given.topic!r}, as it has neither tasks nor limits"
        ) from None
    print("\n".join(_lines(topic)) if wants_table(given.output) else json_line(topic.to_wire()))
    return 0


def _limits_of(given: argparse.Namespace) -> Limits | None:
    """The limits of the flags, `None` without any."""
    members: dict[str, Any] = {"concurrency": given.concurrency, "rate": _rate(given, "")}
    per = {
        "concurrency": given.per_concurrency,
        "rate": _rate(given, "per_"),
        "ordered": given.ordered or None,
    }
    if given.per is not None:
        members["per"] = given_value(lambda: PerLabel.model_validate({"label": given.per, **per}))
    elif any(value is not None for value in per.values()):
        raise UsageProblem("--per: name the label that --per-concurrency, --per-rate and --ordered are of")
    if not any(value is not None for value in members.values()):
        return None
    limits: Limits = given_value(lambda: Limits.model_validate(members))
    return limits


def _rate(given: argparse.Namespace, prefix: str) -> Rate | None:
    """The rate of the flags with a prefix: `COUNT/PERIOD`, and a burst."""
    text, burst = getattr(given, f"{prefix}rate"), getattr(given, f"{prefix}burst")
    flag = f"--{prefix.replace('_', '-')}"
    if text is None:
        if burst is not None:
            raise UsageProblem(f"{flag}burst: it is of a rate; give {flag}rate as well")
        return None
    count, _, period = text.partition("/")
    if not count.isdecimal() or not period:
        raise UsageProblem(f"{flag}rate: {text!r} is not a count and a period; write them as 100/1m")
    try:
        return Rate.model_validate({"count": int(count), "period": period, "burst": burst})
    except ValueError as error:
        raise UsageProblem(f"{flag}rate: {first_fault(error)}") from None


def _lines(topic: Topic) -> list[str]:
    """The limits of a topic for people."""
    limits = topic.limits or Limits()
    rows = [("concurrency", limits.concurrency), ("rate", _rate_text(limits.rate))]
    if per := limits.per:
        rows += [
            (f"per {per.label}", "in turns"),
            ("  concurrency", per.concurrency),
            ("  rate", _rate_text(per.rate)),
            ("  ordered", "yes" if per.ordered else None),
        ]
    lines = [f"  {name:15} {value}" for name, value in rows if value is not None]
    if not lines:
        lines = ["  no limits"]
    if closed := closing(topic):
        lines.append(f"  closed          {closed}")
    return [printable(topic.name), *map(printable, lines)]


def _rate_text(rate: Rate | None) -> str | None:
    if rate is None:
        return None
    period = rate.to_wire()["period"]
    return f"{rate.count} in {period}" + (f", burst {rate.burst}" if rate.burst > 1 else "")
