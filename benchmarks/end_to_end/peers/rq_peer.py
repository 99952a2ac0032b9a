"""RQ on Redis: the simple worker, which runs jobs itself and not in a fork for each; no results."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

from counting import REDIS_PORT, TASKS, count
from redis import Redis
from rq import Queue, SimpleWorker

queue = Queue("bench", connection=Redis(host="127.0.0.1", port=REDIS_PORT))


def noop():
    count()


def push():
    for first in range(0, TASKS, 1_000):
        jobs = [Queue.prepare_data(noop, result_ttl=0) for _ in range(first, min(first + 1_000, TASKS))]
        queue.enqueue_many(jobs)


def work():
    SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")
