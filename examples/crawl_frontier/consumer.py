"""One consumer of the frontier, a process of its own. Any number may run, on any machine that reaches Ratus.

It claims pages, fetches them, queues what they link to, and commits them. It keeps nothing: kill it at any
moment, and its claims lapse after their timeout and are handed to the others.

It says what became of each claim on standard output, a line of JSON for each.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys

from examples.crawl_frontier import async_consumer, sync_consumer
from examples.crawl_frontier.visits import Assignment
from ratus import RatusError


def main() -> int:
    """Run one consumer from the command line."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(
        prog="python -m examples.crawl_frontier.consumer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--ratus", required=True, metavar="URL", help="the Ratus server")
    parser.add_argument("--topic", required=True, help="the topic that is the frontier")
    parser.add_argument("--name", required=True, help="what this consumer is called")
    parser.add_argument("--claim-timeout", default="5s", help="when a claim lapses [default %(default)s]")
    parser.add_argument("--limit", type=int, metavar="N", help="follow no link once N pages are known")
    parser.add_argument(
        "--async", dest="asynchronous", action="store_true", help="with asyncio instead of threads"
    )
    options = parser.parse_args()
    assignment = Assignment(options.ratus, options.topic, options.name, options.claim_timeout, options.limit)
    # A page that fails is a line of our own and the `error` of its task; no need for a third place.
    logging.getLogger("ratus.client").setLevel(logging.ERROR)
    try:
        if options.asynchronous:
            asyncio.run(async_consumer.crawl(assignment))
        else:
            sync_consumer.crawl(assignment)
    except (RatusError, ValueError) as error:
        # What is claimed lapses and goes to others; there is nothing to clean up.
        print(f"{options.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
