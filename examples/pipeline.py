"""A pipeline of two topics: texts are counted, and the counts summed up by another worker.

    texts  --count-->  counts  --add up-->  the totals

The first worker pushes into the second topic before it commits. If it dies in between, the text is counted
again and pushed again, under the same id: a task's id is what makes a repetition harmless.

    python examples/pipeline.py [URL]
"""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from ratus import AsyncClient, AsyncDelivery, Task

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"

TEXTS = [
    "a queue is a list of promises",
    "a promise that is not kept lapses",
    "a task that lapses is handed out again",
    "a nonce tells a late worker from the right one",
]


async def count(ratus: AsyncClient, delivery: AsyncDelivery) -> None:
    """The first stage: the words of one text become a task of the second."""
    words = Counter(delivery.payload["text"].split())
    await ratus.insert_tasks([Task(id=f"counts of {delivery.id}", topic="counts", payload=words)])


async def add_up(totals: Counter[str], delivery: AsyncDelivery) -> None:
    """The second stage: the counts of one text are added to the totals."""
    totals.update(delivery.decode(dict[str, int]))


async def main() -> Counter[str]:
    """Run both stages at once, until every text has gone through both."""
    totals: Counter[str] = Counter()
    async with AsyncClient(URL) as ratus:
        for topic in ("texts", "counts"):
            await ratus.delete_topic(topic)
        await ratus.insert_tasks(
            Task(id=f"text {n}", topic="texts", payload={"text": text}) for n, text in enumerate(TEXTS)
        )
        stages = asyncio.gather(
            ratus.subscribe("texts", lambda delivery: count(ratus, delivery), concurrency=4),
            ratus.subscribe("counts", lambda delivery: add_up(totals, delivery)),
        )
        for n in range(len(TEXTS)):
            await ratus.wait_for_task(f"text {n}")
            await ratus.wait_for_task(f"counts of text {n}")
        ratus.stop()
        await stages
    return totals


if __name__ == "__main__":
    for word, times in asyncio.run(main()).most_common(5):
        print(f"{times}  {word}")
