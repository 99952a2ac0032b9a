"""A producer and a worker without the client, with nothing but the standard library.

Start a server first: make run

    python examples/hello_http.py [URL]
"""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
import uuid
from typing import Any

RATUS = sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8000"


def call(method: str, path: str, body: Any = None) -> Any:
    """Send JSON to Ratus and return its answer; None for a 404."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{RATUS}/v1/topics/{path}", data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return None
        raise


def greet(name: str) -> str:
    """Do the work of one task. Raises `ValueError` for a name that is not made of letters."""
    if not name.isalpha():
        raise ValueError(f"{name!r} is no name")
    return f"Hello, {name}!"


def main() -> None:
    """Push three tasks, work on them until nothing is left, and look at the one that failed."""
    # Ids are unique over all topics; a topic of its own lets this be run again.
    topic = f"hello-{uuid.uuid4().hex[:8]}"
    names = ["Ann", "Bob", "???"]
    tasks = [{"_id": f"{topic}/{name}", "payload": name, "retry": {"max_attempts": 1}} for name in names]
    print(call("POST", f"{topic}/tasks", {"data": tasks}))

    # The poll waits up to a second for a task to fall due; a worker that runs for ever would wait longer.
    while task := call("POST", f"{topic}/promises", {"consumer": "me", "timeout": "10s", "wait": "1s"}):
        commit = {"_id": task["_id"], "nonce": task["nonce"]}
        try:
            commit["result"] = greet(task["payload"])
        except ValueError as error:
            commit["error"] = str(error)
        print(commit)
        call("PATCH", f"{topic}/tasks", {"data": [commit]})

    for task in call("GET", f"{topic}/tasks?state=3&outcome=failed")["data"]:
        print(f"dead letter {task['_id']}: {task['error']}")
    call("DELETE", topic)


if __name__ == "__main__":
    main()
