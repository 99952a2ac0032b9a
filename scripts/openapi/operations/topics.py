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

_LIMITS: Final = {
    "concurrency": 50,
    "rate": {"count": 100, "period": "1m0s", "burst": 10},
    "per": {"label": "customer", "concurrency": 2},
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
        description="How many tasks a topic has, in which states, how many are due and since when, "
        "whether it is paused, its limits, and why and until when it is closed. The counts are kept, not "
        "counted, so this costs little however large the topic is.",
        answers={
            200: Answer(
                "The topic.",
                ("Topic",),
                {
                    "busy": _STATUS,
                    "closed": {
                        **_STATUS,
                        "limits": _LIMITS,
                        "closed": "rate",
                        "reopens": "2036-01-31T12:00:00.6Z",
                    },
                },
            )
        },
        errors={404: "The topic has neither a task nor a setting."},
    ),
    "patch_topic": Operation(
        tag="topics",
        summary="Pause, resume or limit a topic",
        description="A paused topic hands out nothing: polls of it answer as if no task were due. It "
        "still accepts tasks and commits. Limits bound how many of its tasks are active and how many are "
        "claimed in a period, of the whole topic and of each value of a label; they replace the old ones as "
        "a whole. Settings survive a restart and need no tasks: a topic with a setting and no task is found, "
        "with count 0, until the setting is undone or the topic deleted. An unknown member is refused.",
        body=Body(
            "TopicPatch",
            "The settings to change.",
            {
                "pause": {"paused": True},
                "resume": {"paused": False},
                "limit": {"limits": _LIMITS},
                "no limits": {"limits": None},
                "end all holds": {"hold": None},
            },
            required=False,
        ),
        answers={
            200: Answer(
                "The topic as it is now.",
                ("Topic",),
                {"paused": {**_STATUS, "paused": True, "closed": "paused"}},
            )
        },
        errors={404: "The topic has no task, and now no setting either."},
    ),
    "list_lanes": Operation(
        tag="topics",
        summary="List the values of a label",
        description="The values of a label that a topic's pending and active tasks have, with how many of "
        "each there are, and why and until when one is closed by the topic's limits. A value whose rate or "
        "hold has not run out is listed without tasks. The first time that a label is used, on a topic with "
        "many tasks, the answer may take a moment. An unknown parameter is refused.",
        query=("lane_label", "lane_after", "page_limit"),
        answers={
            200: Answer(
                "A page of lanes. A topic that does not exist has none.",
                ("Lanes",),
                {
                    "page": {
                        "data": [
                            {"value": "acme", "active": 2, "pending": 10, "closed": "concurrency"},
                            {"active": 0, "pending": 3},
                        ]
                    },
                    "none": {"data": []},
                },
            )
        },
        errors={400: "No label is given, and the topic has no limits per label; or a parameter is wrong."},
    ),
    "delete_topic": Operation(
        tag="topics",
        summary="Delete a topic",
        description="Delete the tasks of a topic, in whatever state, and its settings.",
        answers={200: Answer("How many tasks were deleted.", ("Deleted",), {"some": {"deleted": 10}})},
    ),
}
