"""A claimed task as a handler gets it, and the methods that commit, release or extend its claim."""

# ruff: noqa: ASYNC109 - a `timeout` here is how long a claim holds; the server keeps it, not the event loop

from __future__ import annotations

import contextlib
import time
from datetime import datetime
from functools import lru_cache
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import msgspec
from pydantic import TypeAdapter

from ratus.calls import requests
from ratus.calls.async_calls import AsyncCalls
from ratus.calls.base import BaseCalls
from ratus.calls.claims import Claimed, committed_under
from ratus.calls.failures import describe, shorten
from ratus.calls.inputs import (
    DurationLike,
    TimeLike,
    checked_json,
    duration_text,
    hold_text,
    json_bytes,
    microseconds,
    seconds,
    time_text,
)
from ratus.calls.requests import Request
from ratus.calls.steps import Steps, call
from ratus.calls.sync_calls import SyncCalls
from ratus.core.errors import Conflict, NotFound, RatusError
from ratus.core.models import Commit, Promise, Task, TaskState
from ratus.core.times import parse_time

T = TypeVar("T")

DEFAULT_LEASE: Final = 600.0
"""Seconds for which a claim holds where neither a timeout nor a deadline was given."""

_UNREAD: Final = object()

_encode: Final = msgspec.json.Encoder().encode


class BaseDelivery:
    """What `Delivery` and `AsyncDelivery` have in common: everything that needs no server.

    The methods that set something return the delivery, so that they can be chained; nothing is sent before
    `commit`. If nothing was set, the commit completes the task.
    """

    __slots__ = (
        "_changes",
        "_claimed",
        "_deadline",
        "_expires",
        "_hold",
        "_lost",
        "_nonce",
        "_payload",
        "_received",
        "_renewed",
        "_settled",
        "_task",
        "_timeout",
    )

    def __init__(self, claimed: Claimed, lease: float, timeout: DurationLike | None) -> None:
        self._claimed = claimed
        # Seconds of the monotonic clock; the server's own clock may differ from ours.
        self._received = self._renewed = time.monotonic()
        self._expires = self._received + lease
        self._timeout = timeout
        self._deadline = claimed.deadline
        self._nonce = claimed.nonce
        self._changes: dict[str, Any] | None = None
        self._hold: str | None = None
        self._payload: Any = _UNREAD
        self._task: Task | None = None
        self._settled = False
        self._lost = False

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of task {self.id!r} in {self.topic!r}>"

    # ---- what was claimed --------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """The id of the task."""
        return self._claimed.id

    @property
    def topic(self) -> str:
        """The topic that the task was claimed from."""
        return self._claimed.topic

    @property
    def attempts(self) -> int:
        """Which attempt this is: 1 is the first."""
        return self._claimed.attempts

    @property
    def nonce(self) -> str:
        """The nonce of the claim, which proves that it is still held."""
        return self._claimed.nonce

    @property
    def task(self) -> Task:
        """The whole task, as it was claimed."""
        if self._task is None:
            self._task = self._claimed.to_task(self.payload)
        return self._task

    @property
    def payload(self) -> Any:
        """The payload as plain Python values; `None` when there is none."""
        if self._payload is _UNREAD:
            raw = self._claimed.payload
            self._payload = msgspec.json.decode(raw) if raw else None
        return self._payload

    def decode(self, model: type[T]) -> T:
        """The payload as a `model`: a pydantic model, a dataclass, a TypedDict, or any other type with hints.

        Before Python 3.12 a TypedDict must be that of `typing_extensions`. Raises
        `pydantic.ValidationError`, a `ValueError`, when the payload does not fit.
        """
        raw = self._claimed.payload
        adapter: TypeAdapter[T] = _adapter(model)
        return adapter.validate_json(bytes(raw) or b"null")

    # ---- the claim ---------------------------------------------------------------------------------

    @property
    def deadline(self) -> datetime | None:
        """When the claim lapses by the server's clock, extensions included."""
        if self._deadline is None:
            return None
        return Promise(deadline=self._deadline).deadline

    @property
    def lost(self) -> bool:
        """Whether the claim is no longer held, so that the work is in vain.

        The server has said so, or the time for which the task was claimed or extended has passed by this
        machine's monotonic clock, whatever the wall clocks say; another consumer may run the task by now. A
        long-running handler should read this now and then. Once it was read as true it stays true until
        `extend` succeeds, and the end of the handler or of the `with` block then commits nothing; a call of
        `commit` is still sent.
        """
        if not self._lost and not self._settled and time.monotonic() >= self._expires:
            self._lost = True
        return self._lost

    @property
    def settled(self) -> bool:
        """Whether the delivery was committed or released."""
        return self._settled

    # ---- what is to become of it -------------------------------------------------------------------

    def set_payload(self, payload: Any) -> Self:
        """Replace the payload by a value that JSON can hold, a dataclass or a model; not by `None`.

        Raises `ValueError`, which names the place of what JSON cannot hold.
        """
        return self._set("payload", checked_json(_given(payload, "payload"), "payload"))

    def set_result(self, result: Any) -> Self:
        """Leave a result with the task. Takes what `set_payload` takes, and raises what it raises."""
        return self._set("result", checked_json(_given(result, "result"), "result"))

    def set_topic(self, topic: str) -> Self:
        """Move the task to another topic. Raises `ValueError` for an empty name or one that is too long."""
        if not topic:
            raise ValueError("topic: the name must not be empty")
        return self._set("topic", Commit(topic=topic).topic)

    def set_state(self, state: TaskState) -> Self:
        """Set the state that the commit gives the task. Raises `ValueError` for what is no state."""
        return self._set("state", int(TaskState(state)))

    def set_scheduled(self, scheduled: TimeLike) -> Self:
        """Set the time at which the task is due again. Replaces what `set_defer` has set."""
        self._drop("defer")
        return self._set("scheduled", time_text(scheduled, "scheduled"))

    def set_defer(self, defer: DurationLike) -> Self:
        """Set how long after the commit the task is due again. Replaces what `set_scheduled` has set."""
        self._drop("scheduled")
        return self._set("defer", duration_text(defer, "defer"))

    def set_nonce(self, nonce: str) -> Self:
        """Commit under this nonce instead of the claim's own. Raises `TypeError` for what is not text."""
        if not isinstance(nonce, str):
            raise TypeError(f"nonce: it must be text, not {type(nonce).__name__}")
        json_bytes(nonce)
        self._nonce = nonce
        return self

    def force(self) -> Self:
        """Have the commit carry no nonce: it overwrites whatever has happened to the task meanwhile."""
        return self.set_nonce("")

    def abstain(self) -> Self:
        """Have the commit give the task back: it is pending again, and this attempt does not count."""
        return self.set_state(TaskState.PENDING)

    def archive(self) -> Self:
        """Have the commit set the task aside: it is never handed out and never purged."""
        return self.set_state(TaskState.ARCHIVED)

    def reschedule(self, scheduled: TimeLike) -> Self:
        """Have the commit give the task back until a time; this attempt does not count."""
        return self.abstain().set_scheduled(scheduled)

    def retry(self, defer: DurationLike) -> Self:
        """Have the commit give the task back, due again after `defer`; this attempt does not count."""
        return self.abstain().set_defer(defer)

    def fail(self, error: str | BaseException) -> Self:
        """Have the commit report a failure: the task is tried again, or archived when no attempts are left.

        The task's retry policy decides; `set_defer` and `set_scheduled` replace its delay. An exception
        leaves its traceback. Of a text of more than 8 KiB the middle is left out. Raises `TypeError` for what
        is neither a text nor an exception.
        """
        if not isinstance(error, str | BaseException):
            raise TypeError(f"fail takes a text or an exception, not {type(error).__name__}")
        text = describe(error) if isinstance(error, BaseException) else shorten(error)
        self._drop("state")
        return self._set("error", text)

    def hold(self, duration: DurationLike) -> Self:
        """Have nothing more handed out for a while of what the task was claimed from: more than 0 and at most
        24 hours, from the end of the claim.

        That is all tasks with the same value of the label that the topic's limits are `per`, or without such
        limits the whole topic. Every outcome carries the hold: a commit, a failure, a release. For when a
        third party says 429: `delivery.hold("30s").abstain()`.
        """
        self._hold = hold_text(duration)
        return self

    def reset(self) -> Self:
        """Forget all that was set on the delivery."""
        self._hold = None
        return self._start_over()

    # ---- for the clients and their workers ---------------------------------------------------------

    def _start_over(self) -> Self:
        """Forget all that was set on the delivery, but for its hold: a failure comes in the place of that."""
        self._changes = None
        self._nonce = self._claimed.nonce
        return self

    def _set(self, name: str, value: Any) -> Self:
        if self._changes is None:
            self._changes = {}
        self._changes[name] = value
        return self

    def _drop(self, name: str) -> None:
        if self._changes is not None:
            self._changes.pop(name, None)

    def _item(self) -> msgspec.Raw:
        """The commit as one item of a batch."""
        item = {"_id": self._claimed.id, "nonce": self._nonce}
        if self._hold is not None:
            item["hold"] = self._hold
        return msgspec.Raw(_encode(item if self._changes is None else item | self._changes))

    def _release_item(self) -> msgspec.Raw:
        """A commit that gives the claim back, and only this claim."""
        return msgspec.Raw(_encode({"_id": self._claimed.id} | self._release_members()))

    def _release_members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"nonce": self._claimed.nonce, "state": int(TaskState.PENDING)}
        return members if self._hold is None else members | {"hold": self._hold}

    def _commit_request(self) -> Request[Task]:
        members = dict(self._changes or {})
        if self._nonce:
            members["nonce"] = self._nonce
        if self._hold is not None:
            members["hold"] = self._hold
        return requests.commit_raw(self.id, json_bytes(members), fenced=bool(self._nonce))

    def _release_request(self) -> Request[Task]:
        return requests.commit_raw(self.id, json_bytes(self._release_members()), fenced=True)

    def _extend_request(self, timeout: DurationLike | None, deadline: TimeLike | None) -> Request[Promise]:
        if timeout is None and deadline is None:
            timeout = self._timeout
        return requests.extend_promise(self.id, self._claimed.nonce, timeout, deadline)

    def _lease(self, timeout: DurationLike | None, deadline: TimeLike | None) -> float | None:
        """Seconds for which an extension holds; `None` where it names a deadline."""
        if deadline is not None:
            return None
        timeout = self._timeout if timeout is None else timeout
        return DEFAULT_LEASE if timeout is None else seconds(timeout, "timeout")

    def _extended(self, promise: Promise, begun: float, lease: float | None) -> None:
        """Note that the claim was extended, by a request that began at `begun` of the monotonic clock.

        The new lease counts from `begun` by this machine's clock, as the server's may be set back or forth.
        Only where the extension named a deadline, which is a time of the server's clock, does that clock
        count.
        """
        self._renewed = time.monotonic()
        if promise.deadline is None:
            return
        self._deadline = promise.to_wire()["deadline"]
        if lease is not None:
            self._expires = begun + lease
        elif self._claimed.consumed is not None:
            self._expires = self._received + _seconds_between(self._claimed.consumed, self._deadline)

    def _regained(self) -> None:
        """Note that the server has confirmed the claim, which was taken for lost."""
        self._lost = False

    def _done(self) -> None:
        self._settled = True

    def _refused(self, error: RatusError) -> None:
        """Note that the claim is lost, if the server's error says so."""
        if isinstance(error, Conflict | NotFound):
            self._lost = True

    def _settle(self, calls: BaseCalls, request: Request[Task]) -> Steps[Task]:
        """Send `request`, which commits or releases the claim, and note that the delivery is settled."""
        attempts = calls._attempts(request)
        try:
            task = yield from call(request, attempts)
        except RatusError as error:
            # An attempt whose response was lost may have been carried out and have cleared the nonce, so that
            # the repetition is refused.
            found = (yield from self._find()) if attempts.lost and isinstance(error, Conflict) else None
            if found is None:
                self._refused(error)
                raise
            task = found
        self._done()
        return task

    def _find(self) -> Steps[Task | None]:
        """The task, if it was committed under this claim; else `None`."""
        try:
            task = yield from call(requests.get_task(self.id, None))
        except NotFound:
            return None
        return task if committed_under(task, self._claimed) else None

    def _extend(
        self, calls: BaseCalls, timeout: DurationLike | None, deadline: TimeLike | None
    ) -> Steps[Promise]:
        lease = self._lease(timeout, deadline)
        request = self._extend_request(timeout, deadline)
        attempts = calls._attempts(request)
        try:
            promise = yield from call(request, attempts)
        except RatusError as error:
            self._refused(error)
            raise
        self._extended(promise, attempts.begun, lease)
        self._regained()
        return promise


class Delivery(BaseDelivery):
    """A claimed task, as `Client.poll` and `Client.subscribe` hand it out.

    It is a context manager as well: the end of the `with` block commits the delivery, unless it was read as
    `lost`. An exception that leaves the block is reported as a failure; Ctrl-C and `SystemExit` release the
    claim. A delivery that was committed or released within the block stays as it is.
    """

    __slots__ = ("_client",)

    def __init__(
        self, client: SyncCalls, claimed: Claimed, lease: float, timeout: DurationLike | None
    ) -> None:
        super().__init__(claimed, lease, timeout)
        self._client = client

    def commit(self) -> Task:
        """Commit what was set on the delivery; return the task as it is then.

        Raises `Conflict` when the claim is no longer held, and `NotFound` when the task is gone.
        """
        return self._client._run(self._settle(self._client, self._commit_request()))

    def release(self) -> None:
        """Release the claim, as if the task had not been claimed. Raises as `commit` does."""
        self._client._run(self._settle(self._client, self._release_request()))

    def extend(self, timeout: DurationLike | None = None, *, deadline: TimeLike | None = None) -> Promise:
        """Extend the claim: `timeout` from now, by default as long as it was claimed for, or to `deadline`.

        Raises `Conflict` when the claim is no longer held, and `NotFound` when the task is gone.
        """
        return self._client._run(self._extend(self._client, timeout, deadline))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._settled:
            return
        if error is None:
            if not self._lost:
                self.commit()
            return
        # The exception that leaves the block matters more than a failure to report it to the server.
        with contextlib.suppress(RatusError):
            if isinstance(error, Exception):
                self._start_over().fail(error).commit()
            else:
                self.release()


class AsyncDelivery(BaseDelivery):
    """A claimed task, as `AsyncClient.poll` and `AsyncClient.subscribe` hand it out; see `Delivery`."""

    __slots__ = ("_client",)

    def __init__(
        self, client: AsyncCalls, claimed: Claimed, lease: float, timeout: DurationLike | None
    ) -> None:
        super().__init__(claimed, lease, timeout)
        self._client = client

    async def commit(self) -> Task:
        """Commit what was set on the delivery; return the task as it is then.

        Raises `Conflict` when the claim is no longer held, and `NotFound` when the task is gone.
        """
        return await self._client._run(self._settle(self._client, self._commit_request()))

    async def release(self) -> None:
        """Release the claim, as if the task had not been claimed. Raises as `commit` does."""
        await self._client._run(self._settle(self._client, self._release_request()))

    async def extend(
        self, timeout: DurationLike | None = None, *, deadline: TimeLike | None = None
    ) -> Promise:
        """Extend the claim: `timeout` from now, by default as long as it was claimed for, or to `deadline`.

        Raises `Conflict` when the claim is no longer held, and `NotFound` when the task is gone.
        """
        return await self._client._run(self._extend(self._client, timeout, deadline))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._settled:
            return
        if error is None:
            if not self._lost:
                await self.commit()
            return
        with contextlib.suppress(RatusError):
            if isinstance(error, Exception):
                await self._start_over().fail(error).commit()
            else:
                await self.release()


def lease_of(claimed: Claimed, timeout: DurationLike | None, deadline: TimeLike | None) -> float:
    """Seconds for which a claim holds that the server has just made."""
    if deadline is not None and claimed.deadline is not None and claimed.consumed is not None:
        return _seconds_between(claimed.consumed, claimed.deadline)
    return DEFAULT_LEASE if timeout is None else microseconds(timeout, "timeout") / 1_000_000


def _seconds_between(first: str, second: str) -> float:
    return (parse_time(second) - parse_time(first)) / 1_000_000


def _given(value: Any, name: str) -> Any:
    if value is None:
        raise ValueError(f"{name}: None would leave it as it is; give another JSON value")
    return value


@lru_cache(maxsize=256)
def _cached_adapter(model: Any) -> TypeAdapter[Any]:
    return TypeAdapter(model)


def _adapter(model: Any) -> TypeAdapter[Any]:
    try:
        return _cached_adapter(model)
    except TypeError:  # not hashable, such as an Annotated type with a list in it
        return TypeAdapter(model)
