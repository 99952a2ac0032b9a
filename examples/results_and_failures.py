"""What a worker leaves behind: the results of what went well, the error of what failed even when tried again.

Start a server first: make run

    python examples/results_and_failures.py [URL]
"""

from __future__ import annotations

import sys

from ratus import Client, Delivery, Retry, Task

URL = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"
NAMES = ["Ann", "Bob", "", "Cleo"]


def greet(delivery: Delivery) -> None:
    """Run one task. When this returns, the task is committed; when it raises, the task has failed."""
    name = delivery.payload["name"]
    if not name:
        raise ValueError("nobody to greet")
    print(f"Hello, {name}!")
    delivery.set_result(f"greeted {name}")


def main() -> None:
    """Push four tasks, work until they are done, and look at what became of them."""
    with Client(URL) as ratus:
        ratus.delete_topic("greetings")
        ratus.insert_tasks(
            Task(
                id=f"greeting-{n}",
                topic="greetings",
                payload={"name": name},
                retry=Retry(max_attempts=2, delay="100ms"),
            )
            for n, name in enumerate(NAMES)
        )

        # By itself, `subscribe` works until Ctrl-C; here a handler says when it is enough.
        left = len(NAMES) + 1  # the empty name is tried twice

        def handle(delivery: Delivery) -> None:
            nonlocal left
            left -= 1
            if not left:
                ratus.stop()
            greet(delivery)

        ratus.subscribe("greetings", handle)

        for task in ratus.iter_tasks("greetings"):
            outcome = task.result or f"{task.outcome}: {task.error.splitlines()[0]}"
            print(f"{task.id}: {outcome}")


if __name__ == "__main__":
    main()
