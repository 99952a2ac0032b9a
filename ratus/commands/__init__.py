"""Subcommands of `ratus` beside serving, a module each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Final

CLIENT_COMMANDS: Final = {
    "push": "push one task, or many from standard input",
    "poll": "claim tasks",
    "commit": "say what has become of a task",
    "tasks": "list the tasks of a topic",
    "topics": "list the topics and how many tasks they have",
    "watch": "the same, live",
    "schedules": "look at, change and run schedules",
    "values": "read, set and watch the values that clients share",
}
"""The commands that talk to a server, and what each is for."""


def client_command(name: str) -> Callable[[Sequence[str]], int]:
    """A command that talks to a server, loaded when it is run: serving does not need it."""

    def run(arguments: Sequence[str]) -> int:
        code: int = import_module(f"ratus.commands.{name}").main(arguments)
        return code

    return run
