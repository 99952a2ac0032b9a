"""Huey on Redis: no results, a blocking queue."""

# mypy: ignore-errors - runs in a virtualenv of its own, with a library that is not installed here

import sys

from counting import REDIS_PORT, TASKS, count
from huey import RedisHuey

huey = RedisHuey("bench", host="127.0.0.1", port=REDIS_PORT, results=False, blocking=True)


@huey.task()
def noop():
    count()


if __name__ == "__main__" and sys.argv[1:] == ["push"]:
    for _ in range(TASKS):
        noop()
