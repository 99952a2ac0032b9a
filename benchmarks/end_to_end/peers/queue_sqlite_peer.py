"""queue-sqlite: the standard scheduler with eight threads on four shards."""

# It runs in a virtualenv of its own, with a library that is not installed here.
# mypy: ignore-errors

import time

from counting import RESULT, TASKS, count
from queue_sqlite.model import MessageItem, SchedulerConfig
from queue_sqlite.mounter import task
from queue_sqlite.scheduler import QueueScheduler

# Its files are in a folder `cache` where it is started.
CONFIG = SchedulerConfig(receive_thread_num=1, task_thread_num=8, shard_num=4, queue_name="bench")


@task()
def noop(message):
    count()
    return {}


def push():
    operation = QueueScheduler(scheduler_type="standard", config=CONFIG).queue_operation
    for _ in range(TASKS):
        operation.enqueue(MessageItem(content={}, destination="noop").to_dict_by_core())


def work():
    QueueScheduler(scheduler_type="standard", config=CONFIG).start()
    while not RESULT.exists():
        time.sleep(0.05)
    # Its threads would go on.
    time.sleep(3_600)
