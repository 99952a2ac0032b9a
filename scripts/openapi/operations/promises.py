"""Promises: how tasks are claimed, how a claim is kept, and how it is given back."""

from __future__ import annotations

from typing import Final

from scripts.openapi.operations.operation import Answer, Body, Operation
from scripts.openapi.operations.samples import ACTIVE, NONCE

TAG: Final = {
    "name": "promises",
    "description": "A promise is a claim on a task, with a deadline. A claim that is neither committed nor "
    "extended lapses at its deadline, and the task is handed out again.",
}

_PROMISE: Final = {
    "_id": "1",
    "consumer": "https://consumer.example.com",
    "deadline": "2036-01-31T12:10:01.25Z",
}

_CLAIM: Final = ("claim_consumer", "claim_timeout", "claim_deadline")

_CHOICE: Final = ("claim_order", "claim_where", "claim_prefer")

_CLAIMED: Final = "The claimed task, with the nonce that its commit needs."

_BODY: Final = {"short": {"consumer": "https://consumer.example.com", "timeout": "30s"}}

_POLLED: Final = Answer(
    "The claimed task, with the nonce that its commit needs; with a `limit` a list of them.",
    ("Task", "Tasks"),
    {"one": ACTIVE, "with a limit": {"data": [ACTIVE]}},
)

_WAITING: Final = (
    "With `wait` the answer comes as soon as a task is due; waiting requests are served in the order in "
    "which they came. A client that is gone before its answer is written takes no task. With `limit` "
    "several tasks are claimed at once: as many as are due, at least one. `where` narrows the tasks to those "
    "with a label, `prefer` has the values of a label take turns. What the limits of the topic close is not "
    "handed out; where a rate or a hold is the reason, the 404 says by `Retry-After` when to ask again."
)

OPERATIONS: Final = {
    "list_promises": Operation(
        tag="promises",
        summary="List claims",
        description="The running claims of a topic, in a fixed order.",
        query=("page_limit", "page_offset"),
        answers={
            200: Answer(
                "A page of claims.", ("Promises",), {"one": {"data": [_PROMISE]}, "none": {"data": []}}
            )
        },
    ),
    "poll": Operation(
        tag="promises",
        summary="Claim the next task of a topic",
        description="Claim the task that is due next: of those whose `scheduled` has come the one with the "
        "largest `priority`, then the earliest `scheduled`, then the first created. It is "
        f"handed to no other consumer until its deadline. {_WAITING}",
        query=("claim_id", *_CLAIM, "claim_wait", "claim_limit", *_CHOICE),
        body=Body(
            "Poll",
            "How to claim; everything may be left out.",
            {
                **_BODY,
                "patient": {"consumer": "https://consumer.example.com", "timeout": "30s", "wait": "20s"},
                "many": {"consumer": "https://consumer.example.com", "timeout": "5m", "limit": 50},
                "by label": {"where": {"region": ["eu", "us"]}, "prefer": "region"},
            },
            required=False,
        ),
        answers={200: _POLLED},
        errors={
            404: "No task is due, the topic is paused or does not exist, or there is no task with the "
            "`_id` asked for.",
            409: "The task with the `_id` asked for is not pending.",
        },
    ),
    "poll_topics": Operation(
        tag="promises",
        summary="Claim the next task of several topics",
        description="Claim from the first topic of a list in which a task is due; within a topic in its "
        f"own order. {_WAITING}",
        query=(*_CLAIM, "claim_wait", "claim_limit", *_CHOICE),
        body=Body(
            "PollRequest",
            "The topics, in order of preference, and how to claim.",
            {"urgent first": {"topics": ["urgent", "bulk"], "timeout": "30s", "wait": "20s", "limit": 10}},
            nullable=False,
        ),
        answers={200: _POLLED},
        errors={404: "No task is due in any of the topics."},
    ),
    "delete_promises": Operation(
        tag="promises",
        summary="Release the claims of a topic",
        description="Give back all claimed tasks of a topic: they are pending again, and the attempts do "
        "not count.",
        answers={200: Answer("How many claims were released.", ("Deleted",), {"some": {"deleted": 3}})},
    ),
    "get_promise": Operation(
        tag="promises",
        summary="Read a claim",
        description="Who has claimed a task, and until when.",
        answers={200: Answer("The claim.", ("Promise",), {"claim": _PROMISE})},
        errors={404: "There is no task with this id, or it is not claimed."},
    ),
    "insert_promise": Operation(
        tag="promises",
        summary="Claim a task",
        description="Claim this task if it is pending, whether it is due yet or not.",
        query=_CLAIM,
        body=Body("PromiseInput", "How to claim; everything may be left out.", _BODY, required=False),
        answers={200: Answer(_CLAIMED, ("Task",), {"claimed": ACTIVE})},
        errors={404: "There is no task with this id.", 409: "The task is not pending."},
    ),
    "upsert_promise": Operation(
        tag="promises",
        summary="Claim a task by force",
        description="Claim this task whatever its state. A completed or archived task is revived; a "
        "running claim of another consumer is taken over and counts as a lapse.",
        query=_CLAIM,
        body=Body("PromiseInput", "How to claim; everything may be left out.", _BODY, required=False),
        answers={200: Answer(_CLAIMED, ("Task",), {"claimed": ACTIVE})},
        errors={404: "There is no task with this id."},
    ),
    "extend_promise": Operation(
        tag="promises",
        summary="Extend a claim",
        description="Move the deadline of a claim, which keeps its nonce: a heartbeat for work that "
        "takes long.",
        query=("claim_nonce", "claim_timeout", "claim_deadline"),
        body=Body(
            "Extension",
            "The nonce, and until when; left out, the deadline is moved to 10 minutes from now by force.",
            {"heartbeat": {"nonce": NONCE, "timeout": "30s"}},
            required=False,
        ),
        answers={200: Answer("The claim as it is now.", ("Promise",), {"claim": _PROMISE})},
        errors={
            404: "There is no task with this id.",
            409: "The claim is not the caller's any more, or the task is not active. Nothing was changed.",
        },
    ),
    "delete_promise": Operation(
        tag="promises",
        summary="Release a claim",
        description="Give a claimed task back: it is pending again, and the attempt does not count. That "
        "there is no such claim is no error, unless a nonce is given and the task has another one, or none.",
        query=("claim_nonce", "claim_hold"),
        answers={
            200: Answer(
                "How many claims were released.",
                ("Deleted",),
                {"released": {"deleted": 1}, "none": {"deleted": 0}},
            )
        },
        errors={409: "A nonce was given, and the claim is not the caller's any more. Nothing was changed."},
    ),
}
