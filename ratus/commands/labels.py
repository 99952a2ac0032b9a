"""Labels on the command line: `NAME=VALUE`, once for each value."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ratus.core import labels


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
