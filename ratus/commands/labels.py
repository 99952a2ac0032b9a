"""Labels on the command line: `NAME=VALUE`, once for each value; and the flags that choose tasks by them."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ratus.core import labels
from ratus.core.selection import ORDERS


def read_label(text: str) -> tuple[str, str]:
    """The name and the value of a label, for argparse."""
    name, equals, value = text.partition("=")
    try:
        if not equals:
            raise ValueError("it has no =; give NAME=VALUE, such as customer=acme")
        labels.check_name(name)
        return name, labels.text_of(value)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def labels_of(pairs: Sequence[tuple[str, str]] | None) -> dict[str, Any] | None:
    """Labels from the flags of a command: a name that was given several times has an array of its values.
    `None` where no flag was given."""
    if not pairs:
        return None
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            found[name] = [*(found[name] if isinstance(found[name], list) else [found[name]]), value]
        else:
            found[name] = value
    return found


def add_choice(parser: argparse.ArgumentParser) -> None:
    """Add the flags by which a consumer chooses tasks; see `choice_of`."""
    choice = parser.add_argument_group("Which task comes next, within a priority")
    choice.add_argument(
        "--order", choices=ORDERS, help="by its scheduled time, or any; default: due, the earliest"
    )
    choice.add_argument(
        "--where",
        type=read_label,
        action="append",
        metavar="NAME=VALUE",
        help="only tasks with this label; given again for the same label: with one of these values",
    )
    choice.add_argument(
        "--prefer", metavar="NAME,...", help="the values of these labels, at most 3, take turns"
    )


def choice_of(given: argparse.Namespace) -> dict[str, Any]:
    """The arguments ``order``, ``where`` and ``prefer`` of polls and workers, from the flags."""
    return {
        "order": given.order,
        "where": labels_of(given.where),
        "prefer": None if given.prefer is None else given.prefer.split(","),
    }
