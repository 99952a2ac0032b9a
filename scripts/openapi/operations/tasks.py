"""Tasks: how they come in, how they are looked at, and how a claim ends in a commit."""

from __future__ import annotations

from typing import Final

from scripts.openapi.operations.operation import Answer, Body, Operation
from scripts.openapi.operations.samples import COMPLETED, FAILED, NONCE, PENDING

TAG: Final = {
    "name": "tasks",
    "description": "A task is a unit of work. Producers insert tasks, consumers commit what became of "
    "them. Ids are one namespace over all topics: whatever is addressed by id is found, "
    "whichever topic the path says.",
}

_STORED: Final = (
    "Every member is stored as given, those that the server keeps included: that is how tasks are copied "
    "from one server to another. A task that is inserted active (`state` 1) without `consumed` was "
    "consumed now, and without a `deadline` its claim lapses in 10 minutes."
)

_BATCH: Final = {
    "urls": {
        "data": [
            {"_id": "1", "payload": {"url": "https://example.com/"}},
            {"_id": "2", "payload": {"url": "https://example.org/"}, "defer": "10m", "priority": -1},
        ]
    }
}

_SINGLE: Final = {
    "now": {"payload": {"url": "https://example.com/"}},
    "later": {"payload": {"url": "https://example.com/"}, "defer": "10m"},
    "careful": {
        "producer": "https://producer.example.com",
        "payload": {"url": "https://example.com/"},
        "priority": 5,
        "retry": {
            "max_attempts": 5,
            "backoff": "exponential",
            "delay": "1s",
            "max_delay": "1h",
            "jitter": 0.1,
        },
        "ttl": "24h",
    },
}

_COMMITS: Final = {
    "done": {"nonce": NONCE, "result": {"links": 42}},
    "failed": {"nonce": NONCE, "error": "HTTP 503 from example.com"},
    "again later": {"nonce": NONCE, "state": 0, "defer": "10m"},
    "set aside": {"nonce": NONCE, "state": 3},
    "refused by others": {"nonce": NONCE, "state": 0, "hold": "30s"},
    "forced": {},
}

_CREATED: Final = Answer("At least one task is new.", ("Updated",), {"created": {"created": 1, "updated": 0}})

OPERATIONS: Final = {
    "list_tasks": Operation(
        tag="tasks",
        summary="List tasks",
        description="The tasks of a topic in a fixed order, the order of their creation, in whatever "
        "state. To walk through all of them follow `next` with `after`. The dead letters of "
        "a topic are `?state=3&outcome=failed`.",
        query=(
            "page_limit",
            "page_offset",
            "page_after",
            "task_state",
            "task_outcome",
            "task_producer",
            "task_consumer",
            "task_label",
        ),
        answers={
            200: Answer(
                "A page of tasks. A topic that does not exist has none.",
                ("Tasks",),
                {"page": {"data": [PENDING, FAILED]}, "none": {"data": []}},
            )
        },
    ),
    "insert_tasks": Operation(
        tag="tasks",
        summary="Insert many tasks",
        description="Insert a batch; tasks whose id exists already, in whatever topic, are left as they "
        f"are and not counted. A task's own `topic` beats the one of the path. {_STORED}",
        body=Body("TasksInput", "The tasks.", _BATCH),
        answers={
            200: Answer("No task is new.", ("Updated",), {"known": {"created": 0, "updated": 0}}),
            201: _CREATED,
        },
    ),
    "upsert_tasks": Operation(
        tag="tasks",
        summary="Insert or replace many tasks",
        description="Insert a batch; a task whose id exists already, in whatever topic, is replaced as a "
        f"whole and keeps its place in the order of creation. {_STORED}",
        body=Body("TasksInput", "The tasks.", _BATCH),
        answers={
            200: Answer("All tasks existed.", ("Updated",), {"replaced": {"created": 0, "updated": 2}}),
            201: _CREATED,
        },
    ),
    "patch_tasks": Operation(
        tag="tasks",
        summary="Commit many tasks",
        description="Carry out several commits, each as it would be alone, in the order given. Each "
        "stands alone: one that fails has its error in the answer and does not keep the "
        "others from being carried out. Far cheaper than as many requests. Once the tasks in the answer have "
        "come to 16 MiB, the items behind them are without theirs.",
        body=Body(
            "Commits",
            "The commits.",
            {
                "two": {
                    "data": [{"_id": "1", "nonce": NONCE}, {"_id": "2", "nonce": NONCE, "error": "timed out"}]
                }
            },
        ),
        answers={
            200: Answer(
                "One answer for each commit, in the order given.",
                ("CommitResults",),
                {
                    "mixed": {
                        "data": [
                            {"_id": "1", "status": 200, "task": COMPLETED},
                            {
                                "_id": "2",
                                "status": 409,
                                "error": {
                                    "code": 409,
                                    "message": "conflict: the task may have been modified by others",
                                },
                            },
                        ]
                    }
                },
            )
        },
    ),
    "delete_tasks": Operation(
        tag="tasks",
        summary="Delete the tasks of a topic",
        description="Delete all tasks of a topic, in whatever state; its settings stay.",
        answers={200: Answer("How many tasks were deleted.", ("Deleted",), {"some": {"deleted": 10}})},
    ),
    "get_task": Operation(
        tag="tasks",
        summary="Read a task",
        description="The task with this id. With `wait` the answer comes as soon as the task is "
        "completed or archived: that is how a producer gets its result.",
        query=("task_wait",),
        answers={
            200: Answer(
                "The task.", ("Task",), {"pending": PENDING, "completed": COMPLETED, "failed": FAILED}
            )
        },
        errors={404: "There is no task with this id."},
    ),
    "insert_task": Operation(
        tag="tasks",
        summary="Insert a task",
        description="Insert a task. If the body has an `_id` it must be the one of the path; a `topic` in "
        f"the body beats the one of the path. {_STORED}",
        body=Body("TaskInput", "The task; `{}` is one without a payload.", _SINGLE),
        answers={201: Answer("The task is stored.", ("Updated",), {"created": {"created": 1, "updated": 0}})},
        errors={409: "A task with this id exists already, in whatever topic."},
    ),
    "upsert_task": Operation(
        tag="tasks",
        summary="Insert or replace a task",
        description="Insert a task, or replace the one that has its id as a whole; it then keeps its place "
        "in the order of creation. If the body has an `_id` it must be the one of the path; a "
        f"`topic` in the body beats the one of the path. {_STORED}",
        body=Body("TaskInput", "The task; `{}` is one without a payload.", _SINGLE),
        answers={
            200: Answer("A task was replaced.", ("Updated",), {"replaced": {"created": 0, "updated": 1}}),
            201: Answer("The task is new.", ("Updated",), {"created": {"created": 1, "updated": 0}}),
        },
    ),
    "patch_task": Operation(
        tag="tasks",
        summary="Commit a task",
        description="Say what became of a task and end its claim: apply the members of the commit in one "
        "step and clear the nonce. Without a body the task is completed.\n\nWith the `nonce` "
        "of the claim the commit only counts while that claim is the task's: a consumer that "
        "was too slow learns so by a 409. Without one it is forced, whatever the task's "
        "state.\n\nWith an `error` and no `state` it is a failure. With attempts left the task "
        "is pending again after the delay of its retry policy; without, it is archived with "
        "`outcome` `failed`, a dead letter, which stays until it is deleted. A commit from "
        "active to pending without an `error` gives the task back and is no failure; a "
        "commit to pending from any other state starts afresh.",
        body=Body("Commit", "The outcome; left out, the task is completed.", _COMMITS, required=False),
        answers={
            200: Answer("The task as it is now.", ("Task",), {"completed": COMPLETED, "failed": FAILED})
        },
        errors={
            404: "There is no task with this id.",
            409: "The nonce is not the task's any more. Nothing was changed.",
        },
    ),
    "delete_task": Operation(
        tag="tasks",
        summary="Delete a task",
        description="Delete a task, in whatever state. That there was none is no error.",
        answers={
            200: Answer(
                "How many tasks were deleted.", ("Deleted",), {"gone": {"deleted": 1}, "none": {"deleted": 0}}
            )
        },
    ),
}
