"""`ratus commit`: say what has become of a task."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, Final

from ratus.client import Client
from ratus.commands.output import show_tasks, wants_table
from ratus.commands.remote import (
    STATES,
    Parser,
    Problem,
    UsageProblem,
    given_value,
    read_json,
    read_state,
    run,
)
from ratus.core.errors import NotFound
from ratus.core.models import Commit
from ratus.core.quoting import quoted

_DESCRIPTION: Final = """\
Commits a task: completed, unless --state or --error is given. With the nonce that
the claim was given it only counts while the claim is still held; without one it is
forced. An --error without a --state is a failure: the task is tried again, or set
aside when it has no attempts left. With --hold, nothing more is handed out for a
while of the tasks with the same value of the label that the topic is limited per, or
of the whole topic: for when a third party says 429."""

_EXAMPLES: Final = """\
  ratus commit 1 --nonce hJ3uTq8bX0aYc1Zk --result '{"links": 42}'
  ratus commit 1 --nonce hJ3uTq8bX0aYc1Zk --error 'no such mailbox'
  ratus commit 1 --nonce hJ3uTq8bX0aYc1Zk --state pending --defer 10m
  ratus commit 1 --nonce hJ3uTq8bX0aYc1Zk --state pending --hold 30s
  ratus commit 1 --state pending            (revives a dead letter)"""


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 when it is committed, 1 when it was refused, 2 for wrong arguments."""
    parser = Parser("commit", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("id", metavar="ID", help="the task")
    parser.add_argument("--nonce", default="", metavar="NONCE", help="the nonce of the claim")
    parser.add_argument("--state", type=read_state, metavar="STATE", help=", ".join(STATES))
    parser.add_argument("--result", metavar="JSON", help="what came of it; -: from standard input")
    parser.add_argument("--payload", metavar="JSON", help="replaces the payload; -: from standard input")
    parser.add_argument("--error", metavar="TEXT", help="why it failed")
    parser.add_argument("--defer", metavar="DURATION", help="due again so long after now")
    parser.add_argument(
        "--hold", metavar="DURATION", help="hand out nothing more for so long of what the task is of"
    )
    parser.add_argument("--topic", default="", metavar="TOPIC", help="move it to this topic")
    return run(parser, _commit, arguments)


def _commit(client: Client, given: argparse.Namespace) -> int:
    if given.result == given.payload == "-":
        raise UsageProblem("--result and --payload cannot both be read from standard input")
    members: dict[str, Any] = {
        "nonce": given.nonce,
        "topic": given.topic,
        "state": given.state,
        "error": given.error,
        "defer": given.defer,
        "hold": given.hold,
    }
    for name in ("result", "payload"):
        text = getattr(given, name)
        members[name] = None if text is None else read_json(text, f"--{name}")
    commit = given_value(lambda: Commit.model_validate(members))
    if given.hold is not None and not given.nonce:
        raise UsageProblem("--hold: only with --nonce, the nonce of the claim")
    if not given.id:
        raise UsageProblem("ID: it must not be empty")
    try:
        task = client.patch_task(given.id, commit)
    except NotFound as error:
        raise Problem(f"{error}: there is no task {quoted(given.id)}") from None
    show_tasks([task], as_table=wants_table(given.output))
    return 0
