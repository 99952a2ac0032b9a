"""Dramatiq on Redis: no results, a long prefetch (the environment variable dramatiq_queue_prefetch)."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import dramatiq
from counting import REDIS_PORT, TASKS, count
from dramatiq.brokers.redis import RedisBroker

dramatiq.set_broker(RedisBroker(url=f"redis://127.0.0.1:{REDIS_PORT}/0"))


@dramatiq.actor(max_retries=0)
def noop():
    count()


def push():
    for _ in range(TASKS):
        noop.send()
