"""The consumer with asyncio: `AsyncClient`, `AsyncWorker`, `AsyncDelivery`.

It is that of sync_consumer.py, where the reasons are, with `await`.
"""

from __future__ import annotations

import asyncio

import httpx

from examples.crawl_frontier import frontier, visits
from examples.crawl_frontier.visits import Assignment, Diary, Politeness, Visit
from ratus import AsyncClient, AsyncDelivery, AsyncWorker, NotFound, RatusError, Task


async def crawl(assignment: Assignment) -> None:
    """Crawl until the frontier has nothing left. Raises RatusError when Ratus refuses."""
    headers = {"User-Agent": assignment.name}
    async with (
        AsyncClient(assignment.ratus, consumer=assignment.name) as ratus,
        httpx.AsyncClient(headers=headers, timeout=visits.SITE_TIMEOUT, trust_env=False) as site,
    ):
        consumer = Consumer(ratus, site, assignment)
        worker = AsyncWorker(
            ratus,
            assignment.topic,
            consumer.handle,
            concurrency=visits.CONCURRENCY,
            prefetch=visits.PREFETCH,
            timeout=assignment.claim_timeout,
            wait=visits.WAIT,
        )
        watcher = asyncio.create_task(_stop_at_the_end(ratus, assignment.topic, worker))
        try:
            await worker.run()
        finally:
            watcher.cancel()
            consumer.diary.close()


class Consumer:
    """Visits pages; `handle` is run by several tasks at once."""

    def __init__(self, ratus: AsyncClient, site: httpx.AsyncClient, assignment: Assignment) -> None:
        self._ratus = ratus
        self._site = site
        self._topic = assignment.topic
        self._limit = assignment.limit
        self._politeness = Politeness()
        self.diary = Diary(assignment.name)

    async def handle(self, delivery: AsyncDelivery) -> None:
        """Visit a page. What is raised on the way is a failure of the task, and tried again."""
        verdict = "failed"
        try:
            visit = await self._visit(delivery)
            verdict = visit.verdict
        finally:
            self.diary.add(delivery, verdict)

    async def _visit(self, delivery: AsyncDelivery) -> Visit:
        if pause := self._politeness.pause(delivery.id):
            return visits.give_back(delivery, pause)
        visit = visits.conclude(delivery, await self._site.get(delivery.id), self._politeness)
        # Links first, then the commit.
        await self._queue(visit.links)
        return visit

    async def _queue(self, links: list[Task]) -> None:
        if self._limit is None:
            await self._ratus.insert_tasks(links)
            return
        while links and (room := self._limit - await self._known()) > 0:
            await self._ratus.insert_tasks(links[:room])
            links = links[room:]

    async def _known(self) -> int:
        return frontier.total(frontier.states(await self._ratus.get_topic(self._topic)))


async def _stop_at_the_end(ratus: AsyncClient, topic: str, worker: AsyncWorker) -> None:
    while True:
        await asyncio.sleep(visits.LOOK_EVERY)
        try:
            ended = frontier.has_ended(frontier.states(await ratus.get_topic(topic)))
        except NotFound:
            ended = True
        except RatusError:
            continue
        if ended:
            worker.stop()
            return
