"""The frontier: which pages are known, which are being crawled, which are done. All of it is one Ratus topic.

A page is a task, and its URL is the task's id. Ids are unique, so a page that is found a thousand times is
queued once, and nobody has to remember what was seen. This is everything that a crawl keeps anywhere.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from examples.crawl_frontier.connection import Answer, Connection

PENDING, ACTIVE, COMPLETED, ARCHIVED = range(4)

# A page that fails is tried again after 0.2 s, 0.4 s, 0.8 s and 1.6 s. Then it is a dead letter.
MAX_ATTEMPTS = 5
RETRY = {"max_attempts": MAX_ATTEMPTS, "backoff": "exponential", "delay": "200ms"}

# The server takes 10,000 tasks in a request; a thousand links with long addresses stay far below its limit
# for the size of a body, too.
LARGEST_BATCH = 1000

# Longer than the longest wait that a poll asks for.
NETWORK_TIMEOUT = 30.0

_COUNTER = re.compile(r"^ratus_task_(\w+)_count_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class FrontierError(Exception):
    """Ratus refused a request that it should have taken; the message holds both."""


@dataclass(frozen=True)
class Link:
    """A page to crawl: where it is, how many links it is away from the start, and who said so."""

    url: str
    depth: int
    found_on: str | None = None

    def task(self) -> dict[str, Any]:
        """The task that stands for the page. Shallow pages first: they lead to most of the others."""
        return {
            "_id": self.url,
            "priority": max(9 - self.depth, -9),
            "payload": {"depth": self.depth, "found_on": self.found_on},
            "retry": RETRY,
        }


@dataclass(frozen=True)
class Status:
    """How many pages are in which state. `due` are those of the pending ones that could be claimed now."""

    pending: int = 0
    active: int = 0
    completed: int = 0
    archived: int = 0
    due: int = 0

    @property
    def total(self) -> int:
        """All pages that were ever found."""
        return self.pending + self.active + self.completed + self.archived

    @property
    def ended(self) -> bool:
        """Nothing is left to do. True for good: only a page that is active can add others."""
        return self.pending == self.active == 0


class Frontier:
    """A topic, seen as a frontier. `name` is how this user of it is called in what the server logs."""

    def __init__(self, ratus: str, topic: str, name: str) -> None:
        self._connection = Connection(ratus, agent=name, timeout=NETWORK_TIMEOUT)
        self._topic = f"/v1/topics/{quote(topic, safe='')}"

    def add(self, links: Iterable[Link]) -> int:
        """Queue the pages that are not known yet; how many those were."""
        created, remaining = 0, iter(links)
        while batch := list(itertools.islice(remaining, LARGEST_BATCH)):
            answer = self._call("POST", "/tasks", {"data": [link.task() for link in batch]})
            created += answer["created"]
        return created

    def claim(self, consumer: str, *, limit: int, wait: str, timeout: str) -> list[dict[str, Any]]:
        """Claim up to `limit` tasks for as long as `timeout`; none when nothing fell due within `wait`."""
        asked = {"consumer": consumer, "timeout": timeout, "wait": wait, "limit": limit}
        answer = self._call("POST", "/promises", asked, may_be_missing=True)
        claimed: list[dict[str, Any]] = answer["data"] if answer else []
        return claimed

    def commit(self, commits: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Commit many tasks at once. Each stands alone and has an answer, in the order given."""
        answers: list[dict[str, Any]] = self._call("PATCH", "/tasks", {"data": commits})["data"]
        return answers

    def status(self) -> Status:
        """How the crawl stands."""
        topic = self._call("GET", "", may_be_missing=True)
        return Status(**topic["states"], due=topic["due"]) if topic else Status()

    def tasks(self, **chosen: str | int) -> Iterator[dict[str, Any]]:
        """All tasks of a `state`, an `outcome`, a `consumer`, page by page of the list."""
        # An empty cursor is where the list begins, and asks for the cursor of the next page.
        query: dict[str, str | int] = {**chosen, "limit": 100, "after": ""}
        while True:
            answer = self._call("GET", f"/tasks?{urlencode(query)}")
            yield from answer["data"]
            if "next" not in answer:
                return
            query["after"] = answer["next"]

    def counters(self) -> dict[str, dict[str, int]]:
        """What the server's metrics say of this topic: consumer -> `consumed`, `committed` -> count."""
        text = _accepted("GET", "/metrics", self._connection.request("GET", "/metrics")).decode()
        topic = self._topic.rpartition("/")[2]
        found: dict[str, dict[str, int]] = {}
        for counter, labels, value in _COUNTER.findall(text):
            label = dict(_LABEL.findall(labels))
            if label["topic"] == topic and "consumer" in label:
                of_consumer = found.setdefault(label["consumer"], {})
                of_consumer[counter] = of_consumer.get(counter, 0) + int(float(value))
        return found

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _call(self, method: str, path: str, body: Any = None, *, may_be_missing: bool = False) -> Any:
        """Send and return JSON; None for a 404 where one is no surprise."""
        target = f"{self._topic}{path}"
        sent = None if body is None else json.dumps(body).encode()
        answer = self._connection.request(method, target, sent)
        if answer.status == 404 and may_be_missing:
            return None
        return json.loads(_accepted(method, target, answer))


def _accepted(method: str, target: str, answer: Answer) -> bytes:
    if answer.status >= 300:
        raise FrontierError(
            f"{method} {target}: {answer.status} {answer.body[:500].decode(errors='replace')}"
        )
    return answer.body
