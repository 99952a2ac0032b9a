"""Tasks, promises, commits, topics, values and schedules as they travel between client and server.

Every model reads what the server writes and writes what the server reads: `Task.model_validate(answer)` and
`task.to_wire()`. Times are aware `datetime`s, durations `timedelta`s; both may also be given as text. The
server itself answers from compact records, so these models cost it nothing.
"""

from __future__ import annotations

from ratus.core.limits import MAX_PRIORITY, MIN_PRIORITY
from ratus.core.models.commits import Commit, CommitItem, CommitResult, CommitResults, Commits
from ratus.core.models.fields import WireModel
from ratus.core.models.limits import Limits, PerLabel, Rate
from ratus.core.models.promises import Extension, Poll, PollRequest, Promise, Promises
from ratus.core.models.results import Deleted, Error, ErrorDetail, Updated
from ratus.core.models.schedules import (
    LastTask,
    Made,
    Preview,
    Schedule,
    ScheduledTask,
    Schedules,
)
from ratus.core.models.tasks import Priority, Retry, Task, Tasks, TaskState
from ratus.core.models.topics import (
    Lane,
    Lanes,
    Topic,
    TopicPatch,
    Topics,
    TopicStates,
)
from ratus.core.models.values import Value, ValueChanges, ValueInput, Values

__all__ = [
    "MAX_PRIORITY",
    "MIN_PRIORITY",
    "Commit",
    "CommitItem",
    "CommitResult",
    "CommitResults",
    "Commits",
    "Deleted",
    "Error",
    "ErrorDetail",
    "Extension",
    "Lane",
    "Lanes",
    "LastTask",
    "Limits",
    "Made",
    "PerLabel",
    "Poll",
    "PollRequest",
    "Preview",
    "Priority",
    "Promise",
    "Promises",
    "Rate",
    "Retry",
    "Schedule",
    "ScheduledTask",
    "Schedules",
    "Task",
    "TaskState",
    "Tasks",
    "Topic",
    "TopicPatch",
    "TopicStates",
    "Topics",
    "Updated",
    "Value",
    "ValueChanges",
    "ValueInput",
    "Values",
    "WireModel",
]
