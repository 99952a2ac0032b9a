"""RQ on Redis: the simple worker, which runs jobs itself and not in a fork for each; no results."""

# mypy: ignore-errors - runs in a virtualenv of its own, with a library that is not installed here

import sys

from counting import REDIS_PORT, TASKS, count
from redis import Redis
from rq import Queue, SimpleWorker

queue = Queue("bench", connection=Redis(host="127.0.0.1", port=REDIS_PORT))


def noop():
    count()


def push():
    import rq_peer

    for first in range(0, TASKS, 1_000):
        jobs = [
            Queue.prepare_data(rq_peer.noop, result_ttl=0) for _ in range(first, min(first + 1_000, TASKS))
        ]
        queue.enqueue_many(jobs)


if __name__ == "__main__":
    if sys.argv[1:] == ["push"]:
        push()
    else:
        SimpleWorker([queue], connection=queue.connection).work(logging_level="WARNING")
