"""Huey on Redis: no results, a blocking queue."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

from counting import REDIS_PORT, TASKS, count
from huey import RedisHuey

huey = RedisHuey("bench", host="127.0.0.1", port=REDIS_PORT, results=False, blocking=True)


@huey.task()
def noop():
    count()


def push():
    for _ in range(TASKS):
        noop()
