"""Commands that have actions of their own, such as `ratus values get`: which one runs, and the help."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ratus.commands.remote import EXIT_USAGE, about_the_server
from ratus.core.quoting import printable, quoted

Action = tuple[str, Callable[[Sequence[str]], int]]
"""What an action is for, and the function that takes the arguments behind its name."""

_HELP: Final = ("-h", "--help")


def run_action(
    name: str, about: str, examples: str, actions: Mapping[str, Action], arguments: Sequence[str]
) -> int:
    """Run the action that the first argument names; return its exit code, 2 where there is no such action."""
    if arguments and arguments[0] in actions:
        return actions[arguments[0]][1](arguments[1:])
    if arguments and arguments[0] in _HELP:
        listed = "\n".join(f"  {action:10} {what}" for action, (what, _) in actions.items())
        print(f"usage: ratus {name} ACTION [-h] ...\n\n{about}\n\n{about_the_server()}\n")
        print(f"Actions, each with a --help of its own:\n{listed}\n\nExamples:\n{examples}")
        return 0
    problem = f"unknown action {quoted(arguments[0])}" if arguments else "say what to do"
    known = ", ".join(actions)
    message = f"ratus {name}: {problem}: the actions are {known} (see ratus {name} --help)"
    print(printable(message), file=sys.stderr)
    return EXIT_USAGE
