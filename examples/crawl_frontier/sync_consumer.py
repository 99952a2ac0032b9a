"""The consumer with threads: `Client`, `Worker`, `Delivery`."""

from __future__ import annotations

import threading
import time

import httpx

from examples.crawl_frontier import frontier, visits
from examples.crawl_frontier.visits import Assignment, Diary, Politeness, Visit
from ratus import Client, Delivery, NotFound, RatusError, Task, Worker


def crawl(assignment: Assignment) -> None:
    """Crawl until the frontier has nothing left. Raises RatusError when Ratus refuses."""
    headers = {"User-Agent": assignment.name}
    # Pages are fetched by httpx, which is not part of Ratus; `trust_env`: no proxy stands before 127.0.0.1.
    with (
        Client(assignment.ratus, consumer=assignment.name) as ratus,
        httpx.Client(headers=headers, timeout=visits.SITE_TIMEOUT, trust_env=False) as site,
    ):
        consumer = Consumer(ratus, site, assignment)
        worker = Worker(
            ratus,
            assignment.topic,
            consumer.handle,
            concurrency=visits.CONCURRENCY,
            prefetch=visits.PREFETCH,
            timeout=assignment.claim_timeout,
            wait=visits.WAIT,
        )
        threading.Thread(target=_stop_at_the_end, args=(ratus, assignment.topic, worker), daemon=True).start()
        try:
            worker.run()
        finally:
            consumer.diary.close()


class Consumer:
    """Visits pages; `handle` is run by several threads at once."""

    def __init__(self, ratus: Client, site: httpx.Client, assignment: Assignment) -> None:
        self._ratus = ratus
        self._site = site
        self._topic = assignment.topic
        self._limit = assignment.limit
        self._politeness = Politeness()
        self.diary = Diary(assignment.name)

    def handle(self, delivery: Delivery) -> None:
        """Visit a page. What is raised on the way is a failure of the task, and tried again."""
        verdict = "failed"
        try:
            verdict = self._visit(delivery).verdict
        finally:
            self.diary.add(delivery, verdict)

    def _visit(self, delivery: Delivery) -> Visit:
        if pause := self._politeness.pause(delivery.id):
            return visits.give_back(delivery, pause)
        visit = visits.conclude(delivery, self._site.get(delivery.id), self._politeness)
        # That links come first is what makes the crawl safe; the commit follows when `handle` has returned. A
        # consumer that dies in between leaves a page that is crawled again, and links that are known by then.
        # The other way round, the links would be lost for ever, and the crawl could look finished without
        # them.
        self._queue(visit.links)
        return visit

    def _queue(self, links: list[Task]) -> None:
        if self._limit is None:
            self._ratus.insert_tasks(links)
            return
        while links and (room := self._limit - self._known()) > 0:
            self._ratus.insert_tasks(links[:room])
            links = links[room:]

    def _known(self) -> int:
        return frontier.total(frontier.states(self._ratus.get_topic(self._topic)))


def _stop_at_the_end(ratus: Client, topic: str, worker: Worker) -> None:
    while True:
        time.sleep(visits.LOOK_EVERY)
        try:
            ended = frontier.has_ended(frontier.states(ratus.get_topic(topic)))
        except NotFound:
            ended = True  # the topic was deleted
        except RatusError:
            continue  # whether the worker can go on is its own decision
        if ended:
            worker.stop()
            return
