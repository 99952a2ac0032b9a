"""THE state machine: what claim, release, commit, lapse and expire do to a task.

    insert ──> pending ──claim──> active ──commit──> pending | active | completed | archived
                  ^                 │
                  └── release, or lapse (the deadline passed) ──┘
    pending ──expire──> archived            active ──failure without attempts left──> archived

Theory of operation. Each rule is a function of a command, the time and a source of randomness; it gives a
`Change`: what must still be true of the task (the guard) and which members to set. Nothing here does I/O,
keeps state or reads a clock. An engine executes changes, it never invents one:

- Where a change does not depend on the task's old members (`claim`, `release`, `commit` when
  `depends_on_task` says no), a database may apply it in one guarded statement, without reading first.
- Where it does, the engine reads the task, asks for the change, and applies it only if its guard still holds;
  else it reads again. The guard names every member that the decision was made from: state, nonce and
  attempts always, ``deadline`` and ``retry`` for a lapse, ``expires`` for an expiry. So an extension or a
  replacement that was acknowledged between reading and writing is never overridden.

The nonce is the fencing token: made by `claim`, checked and cleared by `commit`, cleared by `release` and
`lapse`, kept by `extend`.

`attempts` are the claims that ended in failure or lapse, plus the running one: a claim adds one, giving
back takes it away, a failure or a lapse lets it stand.

A change also says what operators count of it (`Event`), so that every engine counts the same.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from enum import Enum
from typing import Any

from msgspec import Struct

from ratus.core.errors import BadRequest, Conflict
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
NONCE_LENGTH = 16
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


class Change(Struct, frozen=True, gc=False):
    """A guard and the members to set.

    ``require``: members that must have these values, else the change does not apply. ``set``: new values.
    ``attempts``: added to the task's attempts, which never go below zero. ``events``: what is to be counted
    once the change is made, in the topic that the task is in then.
    """

    require: dict[str, Any]
    set: dict[str, Any]
    attempts: int = 0
    events: tuple[Event, ...] = ()


def apply(task: TaskRecord, change: Change) -> None:
    """Carry a change out on a record. The guard is the caller's to check."""
    for name, value in change.set.items():
        setattr(task, name, value)
    if change.attempts:
        task.attempts = max(0, task.attempts + change.attempts)


# ---- nonces --------------------------------------------------------------------------------------

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
# 248 is the largest multiple of 62 below 256: bytes above it are dropped, so that no letter is favoured.
_LETTERS = bytes(_ALPHABET[value % 62] for value in range(256))
_UNEVEN = bytes(range(248, 256))


class Nonces:
    """Makes nonces: 16 random characters from A-Z, a-z, 0-9 (95 bits), unpredictable.

    Randomness is taken from the operating system a few thousand bytes at a time: asking for each nonce
    costs more than the whole claim.
    """

    def __init__(self, source: Callable[[int], bytes] = os.urandom) -> None:
        self._source = source
        self._pool = ""
        self._at = 0

    def __call__(self) -> str:
        start = self._at
        end = start + NONCE_LENGTH
        if end > len(self._pool):
            self._pool = self._source(8192).translate(_LETTERS, _UNEVEN).decode("ascii")
            start, end = 0, NONCE_LENGTH
        self._at = end
        return self._pool[start:end]


# ---- claiming and giving back --------------------------------------------------------------------


def claim(*, consumer: str, nonce: str, deadline: int, now: int) -> Change:
    """Hand a pending task to a consumer. A claim without a consumer removes the old one."""
    return Change(
        {"state": PENDING},
        {
            "state": ACTIVE,
            "nonce": nonce,
            "consumer": consumer,
            "consumed": now,
            "deadline": deadline,
            "implied": False,
        },
        attempts=1,
    )


def claim_forced(task: TaskRecord, *, consumer: str, nonce: str, deadline: int, now: int) -> Change:
    """Hand a task to a consumer whatever its state.

    Over an active task the old claim counts as a lapse; a completed or archived one starts afresh.
    """
    change = claim(consumer=consumer, nonce=nonce, deadline=deadline, now=now)
    members = change.set
    events: tuple[Event, ...] = ()
    if task.state == ACTIVE:
        members["error"] = DEADLINE_EXCEEDED
        events = (Event.LAPSE,)
    elif task.state != PENDING:
        members |= _AFRESH
        members["attempts"] = 1
        return Change(_guard(task), members)
    return Change(_guard(task), members, attempts=1, events=events)


def release(nonce: str | None = None) -> Change:
    """Take an active task back without counting it as a failure. With a nonce: only that claim."""
    require: dict[str, Any] = {"state": ACTIVE}
    if nonce is not None:
        require["nonce"] = nonce
    return Change(require, {"state": PENDING, "nonce": ""}, attempts=-1)


def extend(*, nonce: str, deadline: int) -> Change:
    """Move the deadline of a claim and keep its nonce. Without a nonce it is forced."""
    require: dict[str, Any] = {"state": ACTIVE}
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
    """Apply a commit and clear the nonce. Without a nonce it is forced, in any state.

    - Without ``state`` and ``error``: completed.
    - ``error`` without ``state`` is a failure: `_fail` decides between another attempt and the dead letters.
    - To pending from active without ``error`` is giving back: the attempt is taken back. To pending from any
      other state starts afresh: no attempts, no error, no outcome.
    - ``error`` with ``state`` does what ``state`` says and keeps the error; completing without one clears it.

    ``task`` may be ``None`` where `depends_on_task` says that it is not needed.
    """
    members: dict[str, Any] = {"nonce": "", "committed": now}
    if commit.topic:
        members["topic"] = commit.topic
    if commit.scheduled is not None:
        members["scheduled"] = commit.scheduled
    if commit.payload is not None:
        members["payload"] = commit.payload
    if commit.result is not None:
        members["result"] = commit.result

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
        return Change({"nonce": commit.nonce} if commit.nonce else {}, members, events=failed)

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
            members["deadline"] = now + DEFAULT_TIMEOUT
            members["implied"] = True
    if failed:
        failed += _after_error(members)
    return Change(guard, members, attempts=given_back, events=failed)


def only_completes(commit: CommitRecord) -> bool:
    """Whether the change a commit makes is `complete`, but for the nonce that it requires."""
    return (
        commit.state is None
        and commit.error is None
        and commit.result is None
        and commit.payload is None
        and commit.scheduled is None
        and not commit.topic
    )


def complete(now: int) -> Change:
    """What a commit does that says nothing, by force."""
    return commit(None, _SAYS_NOTHING, now, _DEFAULTS, lambda: 0.0)


_SAYS_NOTHING = CommitRecord("")
_DEFAULTS = RetryDefaults()


def check_nonce(task: TaskRecord, nonce: str) -> None:
    """Raise `Conflict` where a nonce is given and is not the task's."""
    if nonce and nonce != task.nonce:
        raise Conflict("the task may have been modified by others")


def check_active(task: TaskRecord, nonce: str) -> None:
    """Raise `Conflict` unless the task is active and, where a nonce is given, claimed under it."""
    if task.state != ACTIVE:
        raise Conflict("the target task is not in active state")
    check_nonce(task, nonce)


# ---- what the server does by itself --------------------------------------------------------------


def lapse(task: TaskRecord, defaults: RetryDefaults, random: Random) -> Change:
    """Take back a claim whose deadline has passed: a failure with ``deadline exceeded``.

    The delay counts from the deadline, whoever notices and whenever. A task without a policy of its own has
    no delay and keeps its place.
    """
    assert task.deadline is not None, "an active task has a deadline"
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


def expire(task: TaskRecord) -> Change:
    """Archive a pending task that was not claimed before its ``expires``."""
    guard = {**_guard(task), "expires": task.expires}
    return Change(guard, {"state": ARCHIVED, "outcome": EXPIRED}, events=(Event.DEAD_EXPIRED,))


def complete_on_insert(task: TaskRecord, now: int) -> None:
    """Make a task that is handed in whole, so that every state can be left again.

    An active one without a deadline lapses ten minutes from now; a completed one is kept from now on.
    """
    if task.state == ACTIVE and task.deadline is None:
        task.deadline = now + DEFAULT_TIMEOUT
        task.implied = True
    elif task.state == COMPLETED and task.committed is None:
        task.committed = now


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
    """What is counted of a failure or a lapse that sets these members, beside itself."""
    if members["state"] == PENDING:
        return (Event.RETRY,)
    return (Event.DEAD_FAILED,) if members.get("outcome") == FAILED else ()


def backoff(policy: RetryPolicy, failures: int, defaults: RetryDefaults, random: Random) -> int:
    """Microseconds to wait after failure number ``failures`` (1 is the first).

    d (constant), d·n (linear) or d·2^(n-1) (exponential), at most ``max_delay``, then changed by up to
    ± ``jitter`` of itself.
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


def _guard(task: TaskRecord) -> dict[str, Any]:
    """What must not have changed since the task was read, whatever is decided."""
    return {"state": task.state, "nonce": task.nonce, "attempts": task.attempts}
