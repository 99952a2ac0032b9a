"""A producer and a worker in five lines. Start a server first: make run.

python examples/hello_world.py [URL]
"""

from __future__ import annotations

import sys

from ratus import Client, Delivery, Task

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"


def greet(delivery: Delivery) -> None:
    """Do the work of one task, then stop the worker, which would go on until Ctrl-C."""
    print(f"Hello, {delivery.payload}!")
    ratus.stop()


with Client(URL) as ratus:
    # An id exists once; `upsert_task` replaces the task of an earlier run.
    ratus.upsert_task(Task(id="hello", topic="greetings", payload="world"))
    ratus.subscribe("greetings", greet)
