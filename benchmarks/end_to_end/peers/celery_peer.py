"""Celery on Redis: no results, no rate limits, prefetching without bound."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

from celery import Celery
from counting import REDIS_PORT, TASKS, count

app = Celery("celery_peer", broker=f"redis://127.0.0.1:{REDIS_PORT}/0")
app.conf.update(
    task_ignore_result=True,
    task_store_errors_even_if_ignored=False,
    worker_disable_rate_limits=True,
    worker_prefetch_multiplier=0,
    worker_send_task_events=False,
    task_send_sent_event=False,
    broker_connection_retry_on_startup=True,
)


@app.task
def noop():
    count()


def push():
    with app.producer_pool.acquire() as producer:
        for _ in range(TASKS):
            noop.apply_async(producer=producer)
