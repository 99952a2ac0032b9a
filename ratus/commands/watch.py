"""`ratus watch`: the counts of topics, live."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Sequence
from typing import Final

from ratus.calls.inputs import seconds
from ratus.client import Client
from ratus.commands.output import json_line, topic_table, wants_table
from ratus.commands.remote import EXIT_FAILURE, Parser, UsageProblem, given_value, run
from ratus.commands.topics import counted_topics
from ratus.core.errors import ServiceUnavailable, TransportError
from ratus.core.models import Topic
from ratus.core.quoting import printable

_DESCRIPTION: Final = """\
Shows how many tasks each topic has in which state, again and again, and how many
were completed each second in between. Ctrl-C ends it."""

_EXAMPLES: Final = """\
  ratus watch
  ratus watch mail news --interval 250ms
  ratus watch --output json | jq .due"""

_SHORTEST: Final = 0.1
"""The shortest interval in seconds; a look costs the server a request for each hundred topics."""

_LONGEST: Final = 24 * 3600.0
"""The longest interval in seconds; the system's clock bounds how long a pause can be."""

# Plain ANSI, which every terminal knows: home; clear to the end of the line, of the screen; the cursor.
_HOME: Final = "\x1b[H"
_CLEAR_LINE: Final = "\x1b[K"
_CLEAR_BELOW: Final = "\x1b[J"
_HIDE_CURSOR: Final = "\x1b[?25l"
_SHOW_CURSOR: Final = "\x1b[?25h"


def main(arguments: Sequence[str]) -> int:
    """Exit code 0 after Ctrl-C, 1 when the server refuses or the last look failed, 2 for wrong arguments."""
    parser = Parser("watch", _DESCRIPTION, _EXAMPLES)
    parser.add_argument("topics", metavar="TOPIC", nargs="*", help="only these")
    parser.add_argument("--interval", default="1s", metavar="DURATION", help="time between two looks; 1s")
    parser.add_argument("--count", type=int, default=0, metavar="N", help="end after so many looks")
    return run(parser, _watch, arguments)


def _watch(client: Client, given: argparse.Namespace) -> int:
    interval = given_value(lambda: seconds(given.interval, "--interval"))
    if not _SHORTEST <= interval <= _LONGEST:
        raise UsageProblem(f"--interval: from {_SHORTEST * 1000:g}ms to {_LONGEST / 3600:g}h")
    if given.count < 0:
        raise UsageProblem("--count: it must not be negative")
    as_table = wants_table(given.output)
    screen = as_table and sys.stdout.isatty()
    rates = _Rates()
    looks = 0
    if screen:
        sys.stdout.write(_HIDE_CURSOR + _HOME + _CLEAR_BELOW)
    try:
        while True:
            problem = ""
            try:
                lines = _look(client, given.topics, rates, as_table=as_table)
            except (TransportError, ServiceUnavailable) as error:
                # The server may come back, so the next look is made nevertheless.
                problem = printable(str(error))
                lines = [problem] if as_table else []
                if not as_table:
                    print(f"ratus watch: {problem}", file=sys.stderr)
            _show(lines, screen=screen)
            looks += 1
            if looks == given.count:
                return EXIT_FAILURE if problem else 0
            time.sleep(interval)
    except KeyboardInterrupt:
        return 0
    finally:
        if screen:
            sys.stdout.write(_SHOW_CURSOR)
            sys.stdout.flush()


def _look(client: Client, names: Sequence[str], rates: _Rates, *, as_table: bool) -> list[str]:
    topics, more = counted_topics(client, names)
    if not as_table:
        return [json_line(topic.to_wire()) for topic in topics]
    stamp = time.strftime("%H:%M:%S")
    total = sum(topic.count or 0 for topic in topics)
    summary = f"{client.url}  {stamp}  {len(topics):,} topics, {total:,} tasks{rates.measure(topics)}"
    return [summary, more, *topic_table(topics)]


def _show(lines: list[str], *, screen: bool) -> None:
    if screen:
        size = shutil.get_terminal_size()
        shown = [line[: size.columns] for line in lines[: size.lines - 1]]
        text = "".join(f"{line}{_CLEAR_LINE}\n" for line in shown)
        sys.stdout.write(_HOME + text + _CLEAR_BELOW)
    elif lines:
        print(*lines, sep="\n")
    sys.stdout.flush()


class _Rates:
    """How many tasks were completed between two looks."""

    def __init__(self) -> None:
        self._completed: int | None = None
        self._at = 0.0

    def measure(self, topics: Sequence[Topic]) -> str:
        """The rate since the last look, as the end of a line; empty at the first, and after a purge."""
        completed = sum(topic.states.completed for topic in topics if topic.states)
        now = time.monotonic()
        text = ""
        if self._completed is not None and completed >= self._completed:
            text = f", {(completed - self._completed) / (now - self._at):,.0f} completed/s"
        self._completed, self._at = completed, now
        return text
