"""Topics: what is in them, and how they are steered."""

from __future__ import annotations

from typing import Final

from scripts.openapi.operations.operation import Answer, Body, Operation

TAG: Final = {
    "name": "topics",
    "description": "A topic is a queue of tasks. It comes into being with its first task and is gone with "
    "its last, unless it has a setting.",
}

_STATUS: Final = {
    "name": "example",
    "count": 10,
    "states": {"pending": 2, "active": 1, "completed": 7, "archived": 0},
    "due": 2,
    "oldest": "2036-01-31T12:00:00Z",
}

OPERATIONS: Final = {
    "list_topics": Operation(
        tag="topics",
        summary="List topics",
        description="The topics that have a task or a setting, by name only; with `details=true` with "
        "everything that one of them has.",
        query=("page_limit", "page_offset", "topic_details"),
        answers={
            200: Answer(
                "A page of topics.",
                ("Topics",),
                {
                    "two": {"data": [{"name": "bulk"}, {"name": "urgent"}]},
                    "details": {"data": [_STATUS]},
                },
            )
        },
    ),
    "delete_topics": Operation(
        tag="topics",
        summary="Delete everything",
        description="Delete all tasks of all topics, and all settings of topics. There is no way back.",
        answers={200: Answer("How many tasks were deleted.", ("Deleted",), {"some": {"deleted": 42}})},
    ),
    "get_topic": Operation(
        tag="topics",
        summary="Look at a topic",
        description="How many tasks a topic has, in which states, how many are due and since when, and "
        "whether it is paused. The counts are kept, not counted, so this costs little "
        "however large the topic is.",
        answers={200: Answer("The topic.", ("Topic",), {"busy": _STATUS})},
        errors={404: "The topic has neither a task nor a setting."},
    ),
    "patch_topic": Operation(
        tag="topics",
        summary="Pause or resume a topic",
        description="A paused topic hands out nothing: polls of it answer as if no task were due. It "
        "still accepts tasks and commits. The setting survives a restart and needs no tasks: "
        "a topic with a setting and no task is found, with count 0, until it is resumed or "
        "deleted.",
        body=Body(
            "TopicPatch",
            "The settings to change.",
            {"pause": {"paused": True}, "resume": {"paused": False}},
            required=False,
        ),
        answers={200: Answer("The topic as it is now.", ("Topic",), {"paused": {**_STATUS, "paused": True}})},
        errors={404: "The topic has no task, and now no setting either."},
    ),
    "delete_topic": Operation(
        tag="topics",
        summary="Delete a topic",
        description="Delete the tasks of a topic, in whatever state, and its settings.",
        answers={200: Answer("How many tasks were deleted.", ("Deleted",), {"some": {"deleted": 10}})},
    ),
}
