"""The frontier: which pages are known, which are being crawled, which are done. All of it is one Ratus topic.

A page is a task, and its URL is the task's id. Ids are unique, so a page that is found a thousand times is
queued once, and no consumer has to remember what was seen. This is everything that a crawl keeps anywhere.
"""

from __future__ import annotations

import re

from ratus import Retry, Task, Topic, TopicStates

# A page that fails is tried again after 0.1 s, 0.2 s, 0.4 s and 0.8 s. Then it is a dead letter.
MAX_ATTEMPTS = 5
RETRY = Retry(max_attempts=MAX_ATTEMPTS, backoff="exponential", delay="100ms")

_COUNTER = re.compile(r"^ratus_task_(\w+)_count_total\{(.*)\} (\S+)$", re.MULTILINE)
_WAITING = re.compile(r'^ratus_waiting_requests\{.*wants="task".*\} (\S+)$', re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


def page(topic: str, url: str, depth: int, found_on: str | None = None) -> Task:
    """The task that stands for a page, `depth` links away from the start.

    Shallow pages first: they lead to most of the others.
    """
    return Task(
        id=url,
        topic=topic,
        priority=max(9 - depth, -9),
        payload={"depth": depth, "found_on": found_on},
        retry=RETRY,
    )


def states(topic: Topic) -> TopicStates:
    """How many pages are in which state."""
    assert topic.states is not None, "only lists of topics leave them out"
    return topic.states


def total(known: TopicStates) -> int:
    """All pages that were ever found."""
    return known.pending + known.active + known.completed + known.archived


def has_ended(known: TopicStates) -> bool:
    """Nothing is left to do. True for good: only a page that is active can add others."""
    return known.pending == known.active == 0


def counters(metrics: str, topic: str) -> dict[str, dict[str, int]]:
    """What the server's metrics say of a topic: consumer -> `consumed`, `committed` -> count."""
    found: dict[str, dict[str, int]] = {}
    for counter, labels, value in _COUNTER.findall(metrics):
        label = dict(_LABEL.findall(labels))
        if label["topic"] == topic and "consumer" in label:
            of_consumer = found.setdefault(label["consumer"], {})
            of_consumer[counter] = of_consumer.get(counter, 0) + int(float(value))
    return found


def waiting_polls(metrics: str) -> int:
    """How many polls wait at the server for a task to claim."""
    return sum(int(float(value)) for value in _WAITING.findall(metrics))
