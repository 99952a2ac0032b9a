"""Tasks in every state and with every member of parts 1 and 2 of the API, made by requests alone."""

from __future__ import annotations

from typing import Any

from tests.servers import Api, segment

FAR = "2199-01-01T00:00:00.123456Z"
"""A time that no test reaches: what falls due or lapses then stays as it was recorded."""

LONG = "876000h"
"""A hundred years, as a duration."""

LAPSES = "copied-without-deadline"
"""A task that is active without a deadline: it lapses ten minutes after it came in. Orders leave it out."""

PAYLOADS: list[Any] = [
    0,
    -0.0,
    1.5e-300,
    2**53 + 1,
    -(2**63),
    True,
    "",
    "ü \u0000 \U0001f600 \u2028",
    [],
    {},
    [[[]], {"a": [None]}],
    {"": 1, "a.b": 2, "$set": 3, "z": {"$date": "no date"}, "b": None},
    {"$ref": "c", "$id": "i"},
    {"a\u0000b": 1, "a\ue000b": 2, "\u0000": {"\u0000": []}},
    "x" * 5_000,
    [{"n": n, "text": "y" * 20} for n in range(400)],
]


def fill(api: Api) -> None:
    """Make the tasks; the server must be empty and do no chores."""
    topic = "states"
    # Pending: due in an order that differs from that of their ids, and not due for a long time.
    api.insert(topic, "pending-c", priority=9, producer="p", payload={"n": 1})
    api.insert(topic, "pending-b", scheduled="2020-01-01T00:00:00Z")
    api.insert(topic, "pending-a", scheduled="1950-01-01T00:00:00Z", priority=-9)
    api.insert(topic, "future", scheduled=FAR, priority=9)
    api.insert(topic, "expires", expires=FAR, payload=[1])
    api.insert(topic, "retry", retry={"max_attempts": 5, "backoff": "linear", "delay": "2s", "jitter": 0})
    api.insert(topic, "empty-retry", retry={})
    for number, payload in enumerate(PAYLOADS):
        api.insert("payloads", f"payload-{number}", payload=payload)

    # Active: claimed by id, and as it is copied from elsewhere, with and without a deadline.
    api.insert(topic, "active", payload="work")
    promise(api, "active", consumer="c", deadline=FAR)
    api.insert(topic, "copied", state=1, nonce="0123456789abcdef", consumer="c", deadline=FAR, attempts=3)
    api.insert(topic, LAPSES, state=1)

    # Completed, archived by a consumer, failed, failed with attempts left, expired.
    commits: dict[str, dict[str, Any]] = {
        "completed": {"result": {"ok": [1, 2.5, "ü"]}},
        "archived": {"state": 3},
        "kept-error": {"state": 3, "error": "why"},
        "moved": {"state": 0, "topic": "elsewhere", "payload": "new", "scheduled": "2021-01-01T00:00:00Z"},
    }
    for name, commit in commits.items():
        api.insert(topic, name, payload=name)
        nonce = promise(api, name, consumer="c", deadline=FAR)["nonce"]
        api.commit(name, nonce=nonce, **commit)
    retry = {"max_attempts": 2, "delay": LONG, "max_delay": LONG}
    for name, failures in {"failed": 2, "failing": 1}.items():
        api.insert(topic, name, retry=retry)
        for _ in range(failures):
            api.commit(name, nonce=promise(api, name, deadline=FAR)["nonce"], error=f"{name} ü\nat line 1")
    api.insert(topic, "expired", state=3, outcome="expired", expires="2020-01-01T00:00:00Z")

    # Names that are hard to store, and topics with a setting, with tasks and without any.
    for name in ("a/b", "ü", "$x", "a.b", " ", "a\u0000b", "\U0001f600", "x" * 1024):
        api.insert(f"topic {name}"[:200], name)
    for paused in ("states", "paused and empty"):
        assert api.patch(f"/v1/topics/{segment(paused)}", {"paused": True}).status == 200


def promise(api: Api, task_id: str, **members: Any) -> Any:
    """Claim a task by its id, whatever its state."""
    answer = api.put(f"/v1/topics//promises/{segment(task_id)}", members)
    assert answer.status == 200, answer.body
    return answer.json


def everything(api: Api) -> dict[str, Any]:
    """All that can be read: each topic as it is shown, and its tasks in their order."""
    topics: dict[str, Any] = {}
    names = [topic["name"] for topic in api.get("/v1/topics?limit=100").json["data"]]
    for name in [*names, "paused and empty"]:
        path = f"/v1/topics/{segment(name)}"
        shown = api.get(path)
        assert shown.status == 200, shown.body
        tasks = api.get(f"{path}/tasks?limit=100").json["data"]
        assert len(tasks) == shown.json["count"]
        topics[name] = {"topic": shown.json, "tasks": tasks}
    return topics


def order_of_claims(api: Api, topics: list[str]) -> dict[str, list[str]]:
    """The ids of each topic's due tasks, as a poll hands them out; paused topics are resumed before."""
    orders = {}
    for name in topics:
        assert api.patch(f"/v1/topics/{segment(name)}", {"paused": False}).status == 200
        answer = api.post(f"/v1/topics/{segment(name)}/promises", {"limit": 1000, "timeout": "1h"})
        ids = [task["_id"] for task in answer.json["data"]] if answer.status == 200 else []
        orders[name] = [task_id for task_id in ids if task_id != LAPSES]
    return orders
