"""Schedules: tasks that are made again and again."""

from __future__ import annotations

from typing import Any, Final

from scripts.openapi.operations.operation import Answer, Body, Operation

TAG: Final = {
    "name": "schedules",
    "description": "A schedule makes a task at each of its ticks: by a cron expression in a time zone, or by "
    "an interval. Each tick makes exactly one task, whose id is the name of the schedule and the time of the "
    "tick, over any number of servers.",
}

_DEFINITION: Final[dict[str, Any]] = {
    "topic": "reports",
    "task": {"payload": {"days": 1}, "ttl": "1h"},
    "cron": "30 2 * * *",
    "zone": "Europe/Berlin",
}

_SCHEDULE: Final[dict[str, Any]] = {
    "name": "nightly",
    **_DEFINITION,
    "next": "2036-02-01T01:30:00Z",
    "last": {"_id": "nightly@2036-01-31T01:30:00Z", "state": 2},
}

OPERATIONS: Final = {
    "list_schedules": Operation(
        tag="schedules",
        summary="List schedules",
        description="The schedules in order of their names.",
        query=("page_limit", "list_after"),
        answers={200: Answer("A page of schedules.", ("Schedules",), {"one": {"data": [_SCHEDULE]}})},
    ),
    "preview_schedule": Operation(
        tag="schedules",
        summary="Preview a schedule",
        description="The next five ticks of a schedule, and its expression in words. Nothing is changed.",
        body=Body("ScheduleInput", "The schedule.", {"nightly": _DEFINITION}, nullable=False),
        answers={
            200: Answer(
                "What it would do.",
                ("Preview",),
                {
                    "nightly": {
                        "ticks": ["2036-02-01T01:30:00Z", "2036-02-02T01:30:00Z"],
                        "words": "At 02:30 every day, in Europe/Berlin",
                    }
                },
            )
        },
    ),
    "get_schedule": Operation(
        tag="schedules",
        summary="Read a schedule",
        description="A schedule, with its next tick and the last task that it made.",
        answers={200: Answer("The schedule.", ("Schedule",), {"nightly": _SCHEDULE})},
        errors={404: "There is no such schedule."},
    ),
    "put_schedule": Operation(
        tag="schedules",
        summary="Make or replace a schedule",
        description="The same again changes nothing. The next tick comes after now: the past is never fired. "
        "A wrong expression, one that never comes, and an unknown zone are refused with the part that is "
        "wrong.",
        body=Body("ScheduleInput", "The schedule.", {"nightly": _DEFINITION}, nullable=False),
        answers={
            201: Answer("It is new.", ("Schedule",), {"nightly": _SCHEDULE}),
            200: Answer("It was replaced, or is the same.", ("Schedule",), {"nightly": _SCHEDULE}),
        },
    ),
    "patch_schedule": Operation(
        tag="schedules",
        summary="Change a schedule",
        description="Change some members; `null` takes one away. A schedule that is paused makes no tasks, "
        "and none for the time that it was paused.",
        body=Body(
            "ScheduleInput",
            "The members to change.",
            {"pause": {"paused": True}, "interval": {"cron": None, "zone": None, "every": "15m"}},
            nullable=False,
        ),
        answers={200: Answer("The schedule as it is now.", ("Schedule",), {"nightly": _SCHEDULE})},
        errors={404: "There is no such schedule."},
    ),
    "delete_schedule": Operation(
        tag="schedules",
        summary="Delete a schedule",
        description="Its tasks stay.",
        answers={200: Answer("How many schedules were deleted.", ("Deleted",), {"one": {"deleted": 1}})},
    ),
    "run_schedule": Operation(
        tag="schedules",
        summary="Run a schedule now",
        description="Make a task now, whether or not the schedule is paused or its last task is done.",
        answers={
            201: Answer("The task.", ("Made",), {"made": {"_id": "nightly@2036-01-31T12:00:00.104212Z"}})
        },
        errors={404: "There is no such schedule."},
    ),
}
