"""One consumer of the frontier, a process of its own. Any number may run, on any machine that reaches Ratus.

It claims a few pages, fetches them, queues what they link to, and commits them. It keeps nothing: kill it at
any moment, and its claims lapse after their timeout and are handed to the others.

It says what became of each claim on standard output, a line of JSON for each.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from examples.crawl_frontier.connection import Answer, Connection
from examples.crawl_frontier.frontier import ARCHIVED, PENDING, Frontier, FrontierError, Link
from examples.crawl_frontier.links import host, read_page

# Pages claimed at once. More would save requests, but also hold pages back from the other consumers, and more
# of them have to be crawled again when this one dies.
BATCH = 8

# How long a poll waits for a page to fall due; also how long it takes at most to notice the end of the crawl.
WAIT = "1s"

# A site that says nothing for so long is taken for unreachable, in seconds.
SITE_TIMEOUT = 10.0


@dataclass
class Visit:
    """What came of one claim: the commit to send, a word for it, and the links to queue before."""

    verdict: str
    commit: dict[str, Any]
    links: list[Link] = field(default_factory=list)


class Consumer:
    """Crawls until the frontier has nothing left. It follows no link once `limit` pages are known."""

    def __init__(self, frontier: Frontier, name: str, *, claim_timeout: str, limit: int | None) -> None:
        self._frontier = frontier
        self._name = name
        self._claim_timeout = claim_timeout
        self._limit = limit
        self._sites: dict[str, Connection] = {}
        self._closed_until: dict[str, float] = {}
        self._stopping = False

    def stop(self, *_: object) -> None:
        """Finish what is claimed, then end. Can be used as a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Crawl to the end. Raises OSError or FrontierError when Ratus does not answer or refuses."""
        while not self._stopping:
            claims = self._frontier.claim(self._name, limit=BATCH, wait=WAIT, timeout=self._claim_timeout)
            if claims:
                self._work(claims)
            elif self._frontier.status().ended:
                return

    def _work(self, claims: list[dict[str, Any]]) -> None:
        visits = [self._visit(claim) for claim in claims]
        # The order of these two steps is what makes the crawl safe. Links first: whoever dies in between
        # leaves a page that is crawled again, and links that are known by then. Commits first: the same death
        # loses the links for ever, and the crawl could look finished while they are on their way.
        self._queue([link for visit in visits for link in visit.links])
        answers = self._frontier.commit([visit.commit for visit in visits])
        for claim, visit, answer in zip(claims, visits, answers, strict=True):
            self._say(claim, visit, answer)

    def _queue(self, links: list[Link]) -> None:
        # Of several links to a page the first one counts: let it be the one nearest to the start.
        links = sorted(links, key=lambda link: link.depth)
        if self._limit is None:
            self._frontier.add(links)
            return
        room = self._limit - self._frontier.status().total
        while links and room > 0:
            some, links = links[:room], links[room:]
            room -= self._frontier.add(some)

    def _visit(self, claim: dict[str, Any]) -> Visit:
        url = claim["_id"]
        pause = self._closed_until.get(host(url), 0.0) - time.monotonic()
        if pause > 0:
            return _give_back(claim, pause)
        try:
            answer = self._fetch(url)
        except OSError as error:
            return _failure(claim, f"cannot be fetched: {error!r}")
        if answer.status == 200:
            return _success(claim, answer)
        if answer.status == 429:
            pause = _seconds(answer.headers.get("retry-after"))
            self._closed_until[host(url)] = time.monotonic() + pause
            return _give_back(claim, pause)
        if answer.status in (404, 410):
            return _rejection(claim, f"{answer.status} {answer.reason}")
        return _failure(claim, f"{answer.status} {answer.reason}")

    def _fetch(self, url: str) -> Answer:
        parts = urlsplit(url)
        site = f"{parts.scheme}://{parts.netloc}"
        if site not in self._sites:
            self._sites[site] = Connection(site, agent=self._name, timeout=SITE_TIMEOUT)
        return self._sites[site].request("GET", parts.path)

    def _say(self, claim: dict[str, Any], visit: Visit, answer: dict[str, Any]) -> None:
        # 409: the claim had lapsed and somebody else has the page. They crawl it; this visit does not count.
        said = {"url": claim["_id"], "verdict": visit.verdict if answer["status"] == 200 else "late"}
        print(json.dumps({"consumer": self._name, **said}), flush=True)


def _success(claim: dict[str, Any], answer: Answer) -> Visit:
    url = claim["_id"]
    title, found = "", []
    if answer.headers.get("content-type", "").startswith("text/html"):
        page = read_page(url, answer.body.decode(errors="replace"))
        title, found = page.title, page.links
    result = {"status": answer.status, "title": title, "links": found}
    depth = claim["payload"]["depth"] + 1
    return Visit("completed", _commit(claim, result=result), [Link(link, depth, url) for link in found])


def _failure(claim: dict[str, Any], error: str) -> Visit:
    """It may work later. An `error` without a `state` lets the server apply the task's retry policy."""
    return Visit("failed", _commit(claim, error=error))


def _rejection(claim: dict[str, Any], error: str) -> Visit:
    """It will never work: archived at once, whatever the retry policy would allow."""
    return Visit("rejected", _commit(claim, error=error, state=ARCHIVED))


def _give_back(claim: dict[str, Any], pause: float) -> Visit:
    """The host wants to be left alone. Giving a page back is no failure and costs it no attempt."""
    return Visit("given back", _commit(claim, state=PENDING, defer=f"{pause:.3f}s"))


def _commit(claim: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"_id": claim["_id"], "nonce": claim["nonce"], **members}


def _seconds(retry_after: str | None) -> float:
    """The pause that a host asks for; a second when it does not say, or says it as a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0


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
    options = parser.parse_args()
    consumer = Consumer(
        Frontier(options.ratus, options.topic, options.name),
        options.name,
        claim_timeout=options.claim_timeout,
        limit=options.limit,
    )
    signal.signal(signal.SIGTERM, consumer.stop)
    signal.signal(signal.SIGINT, consumer.stop)
    try:
        consumer.run()
    except (OSError, FrontierError) as error:
        # What is claimed lapses and goes to others; there is nothing to clean up.
        print(f"{options.name}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
