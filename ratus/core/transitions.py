"""THE state machine: what claim, release, commit, lapse and expire do to a task.

    insert ──> pending ──claim──> active ──commit──> pending | active | completed | archived
                  ^                 │
                  └── release, or lapse (the deadline passed) ──┘
    pending ──expire──> archived            active ──failure without attempts left──> archived

Theory of operation. `decide` takes a task, a command, the time and a source of randomness. It gives a
`Change`, which is what must still be true of the task (the guard) and which members to set, or it raises
`Conflict` where the task is not in a state for the command. Nothing here does I/O, keeps state or reads a
clock. An engine finds tasks, asks, and carries out; it makes no change and checks no guard of its own:

- In one process, where nothing happens between reading a task and changing it, the engine asks `decide` and
  applies the change. Each command has a function of its own that `decide` calls, and so may a hot loop.
- Where a change does not depend on the task's old members (`claim`, `extend`, `release`, `commit` when
  `depends_on_task` says no), a database may apply it in one statement without reading first: it compiles the
  guard, `Change.require`. Where that changed nothing, `refusal` says why.
- Where it does depend on them, the engine reads the task, asks `decide`, and applies the change only if its
  guard still holds; else it reads again. The guard names every member that the decision was made from:
  state, nonce and attempts always, ``deadline`` and ``retry`` for a lapse, ``expires`` for an expiry. So an
  extension or a replacement that was acknowledged between reading and writing is never overridden.

What the server does by itself, it does to tasks that an engine finds by `lapsed`, `expired` and `purgeable`.
A task that is inserted, or replaces another, first gets the times that its state needs
(`complete_on_insert`).

The nonce is the fencing token: made by `claim`, checked and cleared by `commit`, cleared by `release` and
`lapse`, kept by `extend`.

`attempts` are the claims that ended in failure or lapse, plus the running one: a claim adds one, giving
back takes it away, a failure or a lapse lets it stand.

A change also says what operators count of it (`Event`), so that every engine counts the same.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Any, TypeAlias

from msgspec import Struct

from ratus.core.errors import BadRequest, Conflict, NotFound, RatusError
from ratus.core.records import (
    ACTIVE,
    ARCHIVED,
    COMPLETED,
    DEFAULT_TIMEOUT,
    EXPIRED,
    FAILED,
    PENDING,
    CommitRecord,
    RetryPolicy,
    TaskRecord,
)
from ratus.core.times import MAX_TIME

DEADLINE_EXCEEDED = "deadline exceeded"
MAX_ERROR_BYTES = 8 * 1024  # an error is a hint for people, not a log file

BACKOFFS = ("constant", "linear", "exponential")
DEFAULT_BACKOFF = "exponential"
DEFAULT_JITTER = 0.1

Random = Callable[[], float]
"""A number from 0 (included) to 1 (excluded), as ``random.random`` gives it."""


class RetryDefaults(Struct, frozen=True):
    """The server's retry policy for tasks (or members of a policy) that name none. Delays are microseconds.

    ``max_attempts`` 0 means without limit.
    """

    max_attempts: int = 0
    delay: int = 1_000_000
    max_delay: int = 3_600_000_000


class Event(Enum):
    """Something that goes wrong with a task, and that operators count."""

    FAILURE = "failure"
    """A commit reported an ``error``, whatever else it said."""
    LAPSE = "lapse"
    """A claim ended by its deadline, or by a forced claim over it."""
    RETRY = "retry"
    """After a failure or a lapse the task is pending again."""
    DEAD_FAILED = "dead letter: failed"
    """After a failure or a lapse the task is archived with the outcome ``failed``: no attempts are left."""
    DEAD_EXPIRED = "dead letter: expired"
    """The task was not claimed in time and is archived with the outcome ``expired``."""


class By(Struct, frozen=True, gc=False):
    """In a guard: the member is a time, and not after this one."""

    time: int


class NotBy(Struct, frozen=True, gc=False):
    """In a guard: the member is no time, or one after this one."""

    time: int


Require: TypeAlias = dict[str, Any]
"""What must be true of a task: the value that each of these members has, or `By` or `NotBy` a time."""


class Change(Struct, frozen=True, gc=False):
    """A guard and the members to set.

    ``require``: the guard; where it does not hold, the change does not apply. ``set``: new values.
    ``attempts``: added to the task's attempts, which never go below zero. ``events``: what is to be counted
    once the change is made, in the topic that the task is in then. ``hold``: until when nothing more is
    handed out of the lane that the task was in before; 0 where it has no such effect. Like all limits, the
    engine keeps it beside the task (`ratus.core.turns`).
    """

    require: Require
    set: dict[str, Any]
    attempts: int = 0
    events: tuple[Event, ...] = ()
    hold: int = 0


def occupies(task: TaskRecord) -> bool:
    """Whether a task takes a place under the limits of concurrency: the active tasks do, nothing beside."""
    return task.state == ACTIVE


def stands_in_line(task: TaskRecord) -> bool:
    """Whether a task keeps its lane alive: it may still be claimed, or is."""
    return task.state in (PENDING, ACTIVE)


def apply(task: TaskRecord, change: Change) -> None:
    """Apply a change to a record. The caller has made sure that the guard holds."""
    for name, value in change.set.items():
        setattr(task, name, value)
    if change.attempts:
        task.attempts = max(0, task.attempts + change.attempts)


# ---- guards --------------------------------------------------------------------------------------


def holds(task: TaskRecord, change: Change) -> bool:
    """Whether the guard of a change holds, so that it may be applied to the task."""
    return _unmet(task, change.require) is None


def meets(task: TaskRecord, require: Require) -> bool:
    """Whether all this is true of the task."""
    return _unmet(task, require) is None


def refusal(task: TaskRecord | None, change: Change) -> RatusError:
    """The error for a change that a database did not apply: no task had the id and met the guard.

    ``task`` is the task as it is now, ``None`` where there is none: `NotFound`. Otherwise it is a `Conflict`;
    where the guard holds again by now, it says that the task may have been modified.
    """
    return NotFound() if task is None else _conflict(_unmet(task, change.require), change.require)


def _check(task: TaskRecord, require: Require) -> None:
    """Raise `Conflict` unless all this is true of the task."""
    if (member := _unmet(task, require)) is not None:
        raise _conflict(member, require)


def _unmet(task: TaskRecord, require: Require) -> str | None:
    """The first member that is not as required."""
    for name, wanted in require.items():
        value = getattr(task, name)
        if isinstance(wanted, By):
            if value is None or value > wanted.time:
                return name
        elif isinstance(wanted, NotBy):
            if value is not None and value <= wanted.time:
                return name
        elif value != wanted:
            return name
    return None


def _conflict(member: str | None, require: Require) -> Conflict:
    """The error for a change that is refused because of this member; ``None``: it is not known which."""
    if member == "state":
        return Conflict(f"the target task is not in {_STATES[require[member]]} state")
    if member == "expires" and isinstance(require[member], NotBy):
        return Conflict("the target task has expired")
    return Conflict(_MODIFIED)


_STATES = {PENDING: "pending", ACTIVE: "active", COMPLETED: "completed", ARCHIVED: "archived"}
_MODIFIED = "the task may have been modified by others"


# ---- claiming and giving back --------------------------------------------------------------------


class ClaimById(Struct, frozen=True, gc=False):
    """Hand this task to a consumer, due or not. ``force``: whatever its state."""

    nonce: str
    deadline: int
    consumer: str = ""
    force: bool = False


class Extend(Struct, frozen=True, gc=False):
    """Move the deadline of a claim, which keeps its nonce. Without a nonce it is forced."""

    nonce: str
    deadline: int


class Release(Struct, frozen=True, gc=False):
    """Give an active task back. With a nonce: only that claim. ``hold``: see `Change`."""

    nonce: str | None = None
    hold: int = 0


def claimable(now: int) -> Require:
    """What is true of a task that may be claimed, if it is also due."""
    return {"state": PENDING, "expires": NotBy(now)}


def claim(*, consumer: str, nonce: str, deadline: int, now: int) -> Change:
    """Hand a pending task to a consumer. A claim without a consumer removes the old one."""
    return Change(
        claimable(now),
        {
            "state": ACTIVE,
            "nonce": nonce,
            "consumer": consumer,
            "consumed": now,
            "deadline": deadline,
            "implied": False,
        },
        1,  # attempts: a positional argument is faster, and every poll makes this change
    )


def claim_by_id(task: TaskRecord, command: ClaimById, now: int) -> Change:
    """Hand this task to a consumer. Raises `Conflict` unless it may be claimed, or the claim is forced.

    Forced over an active task, the old claim counts as a lapse. A completed or archived task starts afresh
    (attempts, error and outcome are reset), and so does a pending one that has expired: it is archived and
    revived in one step.
    """
    change = claim(consumer=command.consumer, nonce=command.nonce, deadline=command.deadline, now=now)
    if not command.force:
        _check(task, change.require)
        return change
    members = change.set
    require = _guard(task)
    if task.state == ACTIVE:
        members["error"] = DEADLINE_EXCEEDED
        return Change(require, members, attempts=1, events=(Event.LAPSE,))
    if task.state == PENDING:
        require["expires"] = task.expires
        if not has_expired(task, now):
            return Change(require, members, attempts=1)
    events = (Event.DEAD_EXPIRED,) if task.state == PENDING else ()
    return Change(require, {**members, **_AFRESH, "attempts": 1}, events=events)


def release(nonce: str | None = None, hold: int = 0) -> Change:
    """Take an active task back without counting it as a failure. With a nonce: only that claim."""
    require: Require = {"state": ACTIVE}
    if nonce is not None:
        require["nonce"] = nonce
    return Change(require, {"state": PENDING, "nonce": ""}, attempts=-1, hold=hold)


def extend(*, nonce: str, deadline: int) -> Change:
    """Move the deadline of a claim and keep its nonce. Without a nonce it is forced."""
    require: Require = {"state": ACTIVE}
    if nonce:
        require["nonce"] = nonce
    return Change(require, {"deadline": deadline, "implied": False})


# ---- committing ----------------------------------------------------------------------------------

_AFRESH: dict[str, Any] = {"attempts": 0, "error": "", "outcome": ""}


def depends_on_task(commit: CommitRecord) -> bool:
    """Whether the change a commit makes depends on the task's members beyond its nonce."""
    return commit.state in (PENDING, ACTIVE) or (commit.state is None and commit.error is not None)


def commit(
    task: TaskRecord | None, commit: CommitRecord, now: int, defaults: RetryDefaults, random: Random
) -> Change:
    """Apply a commit and clear the nonce. Raises `Conflict` where the commit's nonce is not the task's.

    A commit without a nonce is forced: it applies to a task in any state.

    - Without ``state`` and ``error``: completed.
    - ``error`` without ``state`` is a failure: `_fail` decides between another attempt and the dead letters.
    - To pending from active without ``error`` is giving back: the attempt is taken back. To pending from any
      other state starts afresh: no attempts, no error, no outcome.
    - ``error`` with ``state`` does what ``state`` says and keeps the error; completing without one clears it.
    - ``hold`` holds what the task was claimed from, whatever becomes of the task.

    ``task`` may be ``None`` where `depends_on_task` says that it is not needed.
    """
    if commit.nonce and task is not None and commit.nonce != task.nonce:
        raise Conflict(_MODIFIED)
    members: dict[str, Any] = {"nonce": "", "committed": now}
    if commit.topic:
        members["topic"] = commit.topic
    if commit.scheduled is not None:
        members["scheduled"] = commit.scheduled
    if commit.payload is not None:
        members["payload"] = commit.payload
    if commit.result is not None:
        members["result"] = commit.result

    hold = 0 if commit.hold is None else now + commit.hold
    failed: tuple[Event, ...] = () if commit.error is None else (Event.FAILURE,)

    state = commit.state
    if state is None and commit.error is None:
        state = COMPLETED
    if state in (COMPLETED, ARCHIVED):
        members["state"] = state
        members["outcome"] = ""
        if commit.error is not None:
            members["error"] = commit.error
        elif state == COMPLETED:
            members["error"] = ""
        require = {"nonce": commit.nonce} if commit.nonce else {}
        return Change(require, members, events=failed, hold=hold)

    assert task is not None, "this commit depends on the task"
    guard = _guard(task)
    given_back = 0
    if state is None:
        assert commit.error is not None
        members |= _fail(task, commit.error, since=now, delayed=True, defaults=defaults, random=random)
        guard["retry"] = task.retry
        if commit.scheduled is not None:  # the consumer's own time replaces the backoff
            members["scheduled"] = commit.scheduled
    elif state == PENDING:
        members["state"] = PENDING
        if task.state != ACTIVE:
            members |= _AFRESH
        elif commit.error is None:
            given_back = -1
        if commit.error is not None:
            members["error"] = commit.error
    else:
        members["state"] = ACTIVE
        members["outcome"] = ""
        if commit.error is not None:
            members["error"] = commit.error
        guard["deadline"] = task.deadline
        if task.deadline is None:
            members |= _implied_deadline(now)
    if failed:
        failed += _after_error(members)
    return Change(guard, members, attempts=given_back, events=failed, hold=hold)


def only_completes(task: TaskRecord, commit: CommitRecord) -> bool:
    """Whether this commit makes the change that `complete` returns, apart from the nonce in the guard."""
    return (
        commit.state is None
        and commit.error is None
        and commit.result is None
        and commit.payload is None
        and commit.scheduled is None
        and commit.hold is None
        and not commit.topic
        and (not commit.nonce or commit.nonce == task.nonce)
    )


def complete(now: int) -> Change:
    """The change of an empty commit without a nonce: the task is completed, whatever its state."""
    return commit(None, _SAYS_NOTHING, now, _DEFAULTS, lambda: 0.0)


_SAYS_NOTHING = CommitRecord("")
_DEFAULTS = RetryDefaults()


# ---- what the server does by itself --------------------------------------------------------------


class Lapse(Struct, frozen=True, gc=False):
    """Take back a claim whose deadline has come."""


class Expire(Struct, frozen=True, gc=False):
    """Archive a pending task that was not claimed before its ``expires``."""


def lapsed(now: int) -> Require:
    """What is true of a task whose claim has lapsed."""
    return {"state": ACTIVE, "deadline": By(now)}


def has_lapsed(task: TaskRecord, now: int) -> bool:
    """Whether `lapsed` is true of a task, four times as fast as `meets`: called for very many tasks."""
    return task.state == ACTIVE and task.deadline is not None and task.deadline <= now


def expired(now: int) -> Require:
    """What is true of a pending task that has expired."""
    return {"state": PENDING, "expires": By(now)}


def has_expired(task: TaskRecord, now: int) -> bool:
    """Whether `expired` is true of a task, as fast as `has_lapsed`."""
    return task.state == PENDING and task.expires is not None and task.expires <= now


def purgeable(before: int) -> Require:
    """What is true of a completed task that may be deleted: it was committed at or before ``before``."""
    return {"state": COMPLETED, "committed": By(before)}


def lapse(task: TaskRecord, now: int, defaults: RetryDefaults, random: Random) -> Change:
    """Take back a claim whose deadline has come: a failure with ``deadline exceeded``.

    Raises `Conflict` where there is no such claim.

    The delay counts from the deadline, not from when a claim or chore notices the lapse. A task without a
    policy of its own has no delay and keeps its place.
    """
    if not has_lapsed(task, now):
        raise Conflict("the target task has no claim whose deadline has come")
    assert task.deadline is not None, "it has come"
    members = _fail(
        task,
        DEADLINE_EXCEEDED,
        since=task.deadline,
        delayed=task.retry is not None,
        defaults=defaults,
        random=random,
    )
    guard = {**_guard(task), "deadline": task.deadline, "retry": task.retry}
    return Change(guard, {"nonce": "", **members}, events=(Event.LAPSE, *_after_error(members)))


def expire(task: TaskRecord, now: int) -> Change:
    """Archive a pending task that was not claimed before its ``expires``. Raises `Conflict` for another."""
    if not has_expired(task, now):
        raise Conflict("the target task has not expired while it was pending")
    guard = {**_guard(task), "expires": task.expires}
    return Change(guard, {"state": ARCHIVED, "outcome": EXPIRED}, events=(Event.DEAD_EXPIRED,))


# ---- inserting -----------------------------------------------------------------------------------


def completions(now: int) -> tuple[Change, Change]:
    """The changes that set a missing ``deadline`` or ``committed`` of a task that is inserted.

    Without these an active task would never lapse, and a completed one would never be purged. An active task
    without a deadline lapses ten minutes from now; a completed one without a time of commit counts as
    committed now.
    """
    return (
        Change({"state": ACTIVE, "deadline": None}, _implied_deadline(now)),
        Change({"state": COMPLETED, "committed": None}, {"committed": now}),
    )


def complete_on_insert(task: TaskRecord, now: int) -> None:
    """Set a missing ``deadline`` or ``committed`` of a task that is inserted, as `completions` says."""
    state = task.state
    # Nearly all tasks need neither, so this is checked before the changes are made.
    if (state == ACTIVE and task.deadline is None) or (state == COMPLETED and task.committed is None):
        for change in completions(now):
            if holds(task, change):
                apply(task, change)


def _implied_deadline(now: int) -> dict[str, Any]:
    return {"deadline": now + DEFAULT_TIMEOUT, "implied": True}


# ---- every command -------------------------------------------------------------------------------

Command: TypeAlias = ClaimById | Extend | Release | CommitRecord | Lapse | Expire
"""What may be asked for one task that is known by its id."""


def decide(task: TaskRecord, command: Command, now: int, defaults: RetryDefaults, random: Random) -> Change:
    """What a command does to a task as it is. The guard of the change holds for this very task.

    Raises `Conflict` where the command does not apply: the task is in another state, it is claimed under
    another nonce, its time has not come.
    """
    match command:
        case CommitRecord():
            return commit(task, command, now, defaults, random)
        case ClaimById():
            return claim_by_id(task, command, now)
        case Extend():
            change = extend(nonce=command.nonce, deadline=command.deadline)
        case Release():
            change = release(command.nonce, command.hold)
        case Lapse():
            return lapse(task, now, defaults, random)
        case Expire():
            return expire(task, now)
    _check(task, change.require)
    return change


def was_due(task: TaskRecord, latest: int) -> bool:
    """Whether a task was due when it was accepted, claimed or committed, as far as its times say.

    For the case that the clock was set back: a task that becomes pending again and keeps its ``scheduled`` is
    still due, although its ``scheduled`` is after now. ``latest`` is the latest time that the engine has
    seen; it bounds the times of the task, which a client may have set.
    """
    return task.scheduled <= min(latest, max(task.produced, task.consumed or 0, task.committed or 0))


# ---- failure -------------------------------------------------------------------------------------


def _fail(
    task: TaskRecord, error: str, *, since: int, delayed: bool, defaults: RetryDefaults, random: Random
) -> dict[str, Any]:
    """The one failure rule: another attempt after the backoff, or the dead letters."""
    policy = task.retry or RetryPolicy()
    limit = policy.max_attempts if policy.max_attempts is not None else defaults.max_attempts
    if limit and task.attempts >= limit:
        return {"state": ARCHIVED, "outcome": FAILED, "error": error}
    members: dict[str, Any] = {"state": PENDING, "error": error, "outcome": ""}
    if delayed:
        members["scheduled"] = min(since + backoff(policy, task.attempts, defaults, random), MAX_TIME)
    return members


def _after_error(members: dict[str, Any]) -> tuple[Event, ...]:
    """The event that follows a failure or lapse that sets these members: a retry, a dead letter, or none."""
    if members["state"] == PENDING:
        return (Event.RETRY,)
    return (Event.DEAD_FAILED,) if members.get("outcome") == FAILED else ()


def backoff(policy: RetryPolicy, failures: int, defaults: RetryDefaults, random: Random) -> int:
    """Microseconds to wait after failure number ``failures`` (1 is the first).

    d (constant), d·n (linear) or d·2^(n-1) (exponential), at most ``max_delay``, then changed by up to
    ± ``jitter`` of itself. Raises `BadRequest` for an unknown ``policy.backoff``.
    """
    failures = max(1, failures)
    delay = policy.delay if policy.delay is not None else defaults.delay
    longest = policy.max_delay if policy.max_delay is not None else defaults.max_delay
    kind = policy.backoff or DEFAULT_BACKOFF
    if kind == "linear":
        delay *= failures
    elif kind == "exponential":
        delay <<= min(failures - 1, 64)  # beyond 64 doublings any delay is over any maximum
    elif kind != "constant":
        raise BadRequest(f"unknown backoff {kind!r}: use one of {', '.join(BACKOFFS)}")
    delay = min(delay, longest)
    jitter = policy.jitter if policy.jitter is not None else DEFAULT_JITTER
    if jitter:
        delay = round(delay * (1 + jitter * (2 * random() - 1)))
    return delay


def shorten_error(text: str) -> str:
    """The first 8 KiB of an error text, cut between characters."""
    if len(text) * 4 <= MAX_ERROR_BYTES:
        return text
    raw = text.encode()
    return text if len(raw) <= MAX_ERROR_BYTES else raw[:MAX_ERROR_BYTES].decode("utf-8", "ignore")


def _guard(task: TaskRecord) -> Require:
    """What must not have changed since the task was read, whatever is decided."""
    return {"state": task.state, "nonce": task.nonce, "attempts": task.attempts}
