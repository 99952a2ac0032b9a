"""A visit of a page: what is to become of its task.

Both variants of the consumer share it, since nothing here waits for anything.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass
from typing import TypeAlias

import httpx

from examples.crawl_frontier import frontier
from examples.crawl_frontier.links import host, read_page
from ratus import AsyncDelivery, Delivery, Task

# Pages that a consumer fetches at once, from all hosts together.
CONCURRENCY = 4

# Pages claimed beside those, at most. More would save requests, but also hold pages back from the other
# consumers, and more of them have to be crawled again when this one dies.
PREFETCH = 8

# How long a poll waits for a page to fall due.
WAIT = "20s"

# How often a consumer looks whether the crawl has ended, in seconds.
LOOK_EVERY = 0.5

# A site that does not answer for so long is taken for unreachable, in seconds.
SITE_TIMEOUT = 10.0

AnyDelivery: TypeAlias = Delivery | AsyncDelivery


@dataclass(frozen=True)
class Assignment:
    """What a consumer is to do. It follows no link once `limit` pages are known."""

    ratus: str
    topic: str
    name: str
    claim_timeout: str
    limit: int | None


class Unavailable(Exception):
    """The site did not deliver the page; another time it may."""


class Politeness:
    """Which hosts want to be left alone, and for how long. May be used by several threads."""

    def __init__(self) -> None:
        self._closed_until: dict[str, float] = {}

    def pause(self, url: str) -> float:
        """For how many seconds the host of this page still wants to be left alone."""
        return max(self._closed_until.get(host(url), 0.0) - time.monotonic(), 0.0)

    def leave_alone(self, url: str, seconds: float) -> None:
        """Note that the host of this page has asked for a pause of so many seconds."""
        self._closed_until[host(url)] = time.monotonic() + seconds


@dataclass(frozen=True)
class Visit:
    """What came of one claim: the verdict in a word, and the pages to queue before the task is committed."""

    verdict: str
    links: list[Task]


def give_back(delivery: AnyDelivery, pause: float) -> Visit:
    """The host wants to be left alone. Giving a page back is no failure and costs it no attempt."""
    delivery.retry(pause)
    return Visit("given back", [])


def conclude(delivery: AnyDelivery, answer: httpx.Response, politeness: Politeness) -> Visit:
    """Set on the delivery what the answer for its page means. Raises Unavailable if it may work later.

    What a handler raises is a failure, and the server applies the task's retry policy.
    """
    url, status = delivery.id, f"{answer.status_code} {answer.reason_phrase}"
    match answer.status_code:
        case 200:
            page = read_page(url, answer.text if _is_html(answer) else "")
            delivery.set_result({"status": 200, "title": page.title, "links": page.links})
            depth = delivery.payload["depth"] + 1
            found = [frontier.page(delivery.topic, link, depth, found_on=url) for link in page.links]
            return Visit("completed", found)
        case 429:
            pause = _seconds(answer.headers.get("retry-after"))
            politeness.leave_alone(url, pause)
            return give_back(delivery, pause)
        case 404 | 410:
            # It will never work: archived at once, whatever the retry policy would allow.
            delivery.fail(status).archive()
            return Visit("rejected", [])
        case _:
            raise Unavailable(status)


def _is_html(answer: httpx.Response) -> bool:
    return str(answer.headers.get("content-type", "")).startswith("text/html")


def _seconds(retry_after: str | None) -> float:
    """The pause that a host asks for; a second when it does not say, or says it as a date."""
    return float(retry_after) if retry_after and retry_after.isdecimal() else 1.0


class Diary:
    """Says on standard output what became of each claim, a line of JSON for each. For several threads."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[tuple[AnyDelivery, str]] = []
        self._lock = threading.Lock()

    def add(self, delivery: AnyDelivery, verdict: str) -> None:
        """Note a visit that is over. It is reported once its commit, which is on its way, has arrived."""
        with self._lock:
            self._open.append((delivery, verdict))
            self._open = [(each, word) for each, word in self._open if not self._tell(each, word)]

    def close(self) -> None:
        """The consumer has ended: report the visits that are not committed by now as late.

        They do not count: their claims lapse, and another consumer crawls the pages.
        """
        with self._lock:
            for delivery, verdict in self._open:
                if not self._tell(delivery, verdict):
                    self._say(delivery, "late")
            self._open = []

    def _tell(self, delivery: AnyDelivery, verdict: str) -> bool:
        if delivery.settled:
            self._say(delivery, verdict)
        return delivery.settled

    def _say(self, delivery: AnyDelivery, verdict: str) -> None:
        print(json.dumps({"consumer": self._name, "url": delivery.id, "verdict": verdict}), flush=True)
