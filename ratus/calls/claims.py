"""A claimed task as it is received: parsed in one pass, kept compact, decoded when a member is read."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from ratus.core.models import Task

_ABSENT: Final = msgspec.Raw(b"")


class Claimed(msgspec.Struct, omit_defaults=True, frozen=True):
    """A task on the wire, as the response to a claim. Payload and result are kept as undecoded JSON."""

    id: str = msgspec.field(name="_id")
    topic: str = ""
    state: int = 0
    nonce: str = ""
    produced: str | None = None
    scheduled: str | None = None
    producer: str = ""
    consumer: str = ""
    consumed: str | None = None
    deadline: str | None = None
    committed: str | None = None
    expires: str | None = None
    priority: int = 0
    attempts: int = 0
    retry: dict[str, Any] | None = None
    error: str = ""
    outcome: str | None = None
    payload: msgspec.Raw = _ABSENT
    result: msgspec.Raw = _ABSENT
    trace: dict[str, str] | None = None
    labels: dict[str, Any] | None = None

    def to_task(self, payload: Any) -> Task:
        """The public model of this task. `payload` is its payload, which the caller has decoded."""
        members: dict[str, Any] = {
            name: value
            for name in self.__struct_fields__
            if name not in ("payload", "result") and (value := getattr(self, name)) is not None
        }
        if self.result:
            members["result"] = msgspec.json.decode(self.result)
        return Task.model_validate(members | {"payload": payload})


class ClaimedList(msgspec.Struct):
    """The response to a poll: the claimed tasks."""

    data: list[Claimed]


class CommitStatus(msgspec.Struct):
    """What became of one commit of a batch, without the task, which a worker has no use for."""

    id: str = msgspec.field(name="_id")
    status: int
    error: dict[str, Any] | None = None


class CommitStatuses(msgspec.Struct):
    """The response to a batch of commits."""

    data: list[CommitStatus]


def committed_under(task: Task, claimed: Claimed) -> bool:
    """Whether `task`, as it is now, was committed under this claim.

    A commit clears the nonce, so a repetition of the same commit is refused. But until a consumer claims the
    task anew, `consumed` is still the time of this claim, and only a commit under it sets `committed` to that
    time or a later one.
    """
    mine = claimed.to_task(None)
    return (
        not task.nonce
        and task.consumed is not None
        and task.consumed == mine.consumed
        and task.consumer == mine.consumer
        and task.committed is not None
        and task.committed >= task.consumed
    )
