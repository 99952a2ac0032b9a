"""The state machine by itself: changes with their guards, nonces, backoff, error texts."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratus.core.errors import BadRequest, Conflict, NotFound
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
from ratus.core.transitions import (
    DEADLINE_EXCEEDED,
    MAX_ERROR_BYTES,
    By,
    Change,
    ClaimById,
    Command,
    Event,
    Expire,
    Extend,
    Lapse,
    NotBy,
    Release,
    Require,
    RetryDefaults,
    apply,
    backoff,
    claim,
    claim_by_id,
    claimable,
    commit,
    complete,
    complete_on_insert,
    completions,
    decide,
    depends_on_task,
    expire,
    expired,
    extend,
    has_expired,
    has_lapsed,
    holds,
    lapse,
    lapsed,
    meets,
    only_completes,
    purgeable,
    refusal,
    release,
    shorten_error,
)

NOW = 1_700_000_000_000_000
SECOND = 1_000_000
DEFAULTS = RetryDefaults()
STATES = [PENDING, ACTIVE, COMPLETED, ARCHIVED]


def middle() -> float:
    return 0.5


def unused() -> float:
    raise AssertionError("nothing is left to chance here")


def task(state: int = PENDING, **members: Any) -> TaskRecord:
    nonce = "AAAABBBBCCCCDDDD" if state == ACTIVE else ""
    return TaskRecord("1", "t", NOW, NOW, **{"state": state, "nonce": nonce, "deadline": NOW, **members})


COMMITS = st.builds(
    CommitRecord,
    id=st.just("1"),
    nonce=st.sampled_from(["", "AAAABBBBCCCCDDDD"]),
    topic=st.sampled_from(["", "t", "other"]),
    state=st.none() | st.integers(0, 3),
    scheduled=st.none() | st.integers(NOW - SECOND, NOW + SECOND),
    payload=st.none() | st.just(b"[1]"),
    error=st.none() | st.sampled_from(["", "boom"]),
    result=st.none() | st.just(b"[2]"),
)
TASKS = st.builds(
    task,
    state=st.integers(0, 3),
    nonce=st.just("AAAABBBBCCCCDDDD"),
    attempts=st.integers(0, 5),
    expires=st.none() | st.integers(NOW - SECOND, NOW + SECOND),
    deadline=st.none() | st.integers(NOW - SECOND, NOW + SECOND),
    error=st.sampled_from(["", "old"]),
    retry=st.none() | st.builds(RetryPolicy, max_attempts=st.none() | st.integers(0, 4)),
) | st.builds(
    task,
    state=st.just(ARCHIVED),
    nonce=st.just("AAAABBBBCCCCDDDD"),
    outcome=st.sampled_from([FAILED, EXPIRED]),
)


def members_of(change: Change, record: TaskRecord) -> dict[str, Any]:
    """What a change does to a task: the members that differ afterwards."""
    names = TaskRecord.__struct_fields__
    before = {name: getattr(record, name) for name in names}
    apply(record, change)
    return {name: getattr(record, name) for name in names if getattr(record, name) != before[name]}


# ---- claim, release, extend --------------------------------------------------------------------------


def test_a_claim_needs_a_pending_task_that_has_not_expired() -> None:
    change = claim(consumer="c", nonce="n", deadline=NOW + SECOND, now=NOW)
    assert change.require == {"state": PENDING, "expires": NotBy(NOW)}
    assert members_of(change, task(consumer="old", attempts=2, implied=True)) == {
        "state": ACTIVE,
        "nonce": "n",
        "consumer": "c",
        "consumed": NOW,
        "deadline": NOW + SECOND,
        "implied": False,
        "attempts": 3,
    }


@pytest.mark.parametrize("state", STATES)
def test_a_forced_claim_depends_on_the_state(state: int) -> None:
    record = task(state, attempts=2, error="boom", outcome=FAILED)
    change = claim_by_id(record, ClaimById("n", NOW + 1, "c", force=True), NOW)
    expires = {"expires": None} if state == PENDING else {}
    assert change.require == {"state": state, "nonce": record.nonce, "attempts": 2, **expires}
    apply(record, change)
    assert (record.state, record.nonce, record.consumer) == (ACTIVE, "n", "c")
    expected = {
        PENDING: (3, "boom", FAILED),
        ACTIVE: (3, DEADLINE_EXCEEDED, FAILED),
        COMPLETED: (1, "", ""),
        ARCHIVED: (1, "", ""),
    }
    assert (record.attempts, record.error, record.outcome) == expected[state]


@pytest.mark.parametrize("state", STATES)
def test_a_claim_by_id_that_is_not_forced_is_a_claim(state: int) -> None:
    command = ClaimById("n", NOW + 1, "c")
    if state == PENDING:
        change = claim_by_id(task(expires=NOW + 1), command, NOW)
        assert change == claim(consumer="c", nonce="n", deadline=NOW + 1, now=NOW)
    else:
        with pytest.raises(Conflict, match="not in pending state"):
            claim_by_id(task(state), command, NOW)


def test_a_forced_claim_of_an_expired_task_archives_and_revives_it() -> None:
    record = task(attempts=2, error="boom", expires=NOW)
    with pytest.raises(Conflict, match="has expired"):
        claim_by_id(record, ClaimById("n", NOW + 1), NOW)
    change = claim_by_id(record, ClaimById("n", NOW + 1, force=True), NOW)
    assert change.events == (Event.DEAD_EXPIRED,)
    assert change.require["expires"] == NOW
    in_two_steps = msgspec.structs.replace(record)
    apply(in_two_steps, expire(record, NOW))
    apply(in_two_steps, claim_by_id(in_two_steps, ClaimById("n", NOW + 1, force=True), NOW))
    apply(record, change)
    assert record == in_two_steps


@pytest.mark.parametrize("attempts", [0, 1, 5])
def test_a_release_takes_the_attempt_back(attempts: int) -> None:
    record = task(ACTIVE, attempts=attempts)
    change = release()
    assert change.require == {"state": ACTIVE}
    apply(record, change)
    assert (record.state, record.nonce, record.attempts) == (PENDING, "", max(0, attempts - 1))


def test_a_release_may_be_for_one_claim_only() -> None:
    assert release("n").require == {"state": ACTIVE, "nonce": "n"}
    assert release("").require == {"state": ACTIVE, "nonce": ""}


def test_an_extension_moves_the_deadline_and_nothing_else() -> None:
    change = extend(nonce="n", deadline=NOW + SECOND)
    assert change.require == {"state": ACTIVE, "nonce": "n"}
    record = task(ACTIVE, implied=True)
    assert members_of(change, record) == {"deadline": NOW + SECOND, "implied": False}
    assert extend(nonce="", deadline=NOW).require == {"state": ACTIVE}


# ---- guards ------------------------------------------------------------------------------------------


def test_a_guard_holds_where_every_member_is_as_required() -> None:
    policy = RetryPolicy(delay=SECOND)
    record = task(ACTIVE, deadline=NOW, retry=policy)
    whole: Require = {"state": ACTIVE, "nonce": record.nonce, "retry": policy, "expires": None}
    assert holds(record, Change(whole, {}))
    assert holds(record, Change({}, {}))
    for name, other in [("state", PENDING), ("nonce", ""), ("retry", None), ("expires", NOW)]:
        assert not holds(record, Change({**whole, name: other}, {}))


@given(time=st.none() | st.integers(NOW - 2, NOW + 2))
def test_a_guard_may_ask_whether_a_time_has_come(time: int | None) -> None:
    has_come = time is not None and time <= NOW
    assert meets(task(expires=time), {"expires": By(NOW)}) is has_come
    assert meets(task(expires=time), {"expires": NotBy(NOW)}) is not has_come


def test_a_refusal_says_what_is_in_the_way() -> None:
    change = extend(nonce="N", deadline=NOW)
    assert isinstance(refusal(None, change), NotFound)
    cases = [
        (task(PENDING), change, "the target task is not in active state"),
        (task(ACTIVE), change, "the task may have been modified by others"),
        (task(ACTIVE, nonce="N"), change, "the task may have been modified by others"),  # by now it would do
        (task(ACTIVE), claim_at(NOW), "the target task is not in pending state"),
        (task(PENDING, expires=NOW), claim_at(NOW), "the target task has expired"),
    ]
    for record, refused, text in cases:
        error = refusal(record, refused)
        assert isinstance(error, Conflict)
        assert error.detail == text


def claim_at(now: int) -> Change:
    return claim(consumer="", nonce="n", deadline=now, now=now)


# ---- every command -----------------------------------------------------------------------------------

OTHER = "ZZZZYYYYXXXXWWWW"
COMMANDS: list[tuple[Command, set[int]]] = [
    (ClaimById("n", NOW + SECOND), {PENDING}),
    (ClaimById("n", NOW + SECOND, force=True), set(STATES)),
    (Extend("AAAABBBBCCCCDDDD", NOW + SECOND), {ACTIVE}),
    (Extend("", NOW + SECOND), {ACTIVE}),
    (Extend(OTHER, NOW + SECOND), set()),
    (Release(), {ACTIVE}),
    (Release("AAAABBBBCCCCDDDD"), {ACTIVE}),
    (Release(OTHER), set()),
    (Release(""), set()),  # that claim, under no nonce
    (CommitRecord("1"), set(STATES)),
    (CommitRecord("1", error="boom"), set(STATES)),
    (CommitRecord("1", "AAAABBBBCCCCDDDD"), {ACTIVE}),
    (CommitRecord("1", "AAAABBBBCCCCDDDD", state=PENDING), {ACTIVE}),
    (CommitRecord("1", OTHER), set()),
    (CommitRecord("1", OTHER, error="boom"), set()),
    (Lapse(), {ACTIVE}),
    (Expire(), {PENDING}),
]


@pytest.mark.parametrize(("command", "states"), COMMANDS, ids=repr)
@pytest.mark.parametrize("state", STATES)
def test_a_command_applies_in_these_states(command: Command, states: set[int], state: int) -> None:
    # Its claim has lapsed if it has one; and if it is to expire, it has.
    record = task(state, attempts=1, expires=NOW if isinstance(command, Expire) else None)
    before = msgspec.structs.replace(record)
    if state in states:
        change = decide(record, command, NOW, DEFAULTS, middle)
        assert holds(record, change)
        assert members_of(change, msgspec.structs.replace(record))
    else:
        with pytest.raises(Conflict):
            decide(record, command, NOW, DEFAULTS, unused)
    assert record == before  # nothing happens before the change is applied


@given(record=TASKS, seconds=st.integers(-2, 2))
def test_what_is_found_by_a_time_is_what_the_command_applies_to(record: TaskRecord, seconds: int) -> None:
    now = NOW + seconds * SECOND
    pairs: list[tuple[Command, Require]] = [(Lapse(), lapsed(now)), (Expire(), expired(now))]
    for command, require in pairs:
        try:
            decide(record, command, now, DEFAULTS, middle)
        except Conflict:
            assert not meets(record, require)
        else:
            assert meets(record, require)
    assert has_lapsed(record, now) is meets(record, lapsed(now))
    assert has_expired(record, now) is meets(record, expired(now))
    assert not (meets(record, claimable(now)) and meets(record, expired(now)))


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("committed", [None, NOW - 1, NOW, NOW + 1])
def test_only_completed_tasks_are_purged(state: int, committed: int | None) -> None:
    purged = meets(task(state, committed=committed), purgeable(NOW))
    assert purged is (state == COMPLETED and committed in (NOW - 1, NOW))


# ---- commit ------------------------------------------------------------------------------------------


@given(record=TASKS, command=COMMITS)
def test_every_commit_leaves_a_task_that_makes_sense(record: TaskRecord, command: CommitRecord) -> None:
    before = record.state, record.nonce, record.attempts
    change = commit(record, command, NOW, DEFAULTS, middle)
    assert (record.state, record.nonce, record.attempts) == before  # nothing happens before it is applied
    apply(record, change)
    assert record.nonce == ""
    assert record.committed == NOW
    assert record.state in STATES
    assert record.attempts >= 0
    assert record.state != ACTIVE or record.deadline is not None
    assert not record.outcome or record.state == ARCHIVED
    if command.state is not None:
        assert record.state == command.state
    if command.error is not None:
        assert record.error == command.error
    if command.scheduled is not None and record.outcome != FAILED:
        assert record.scheduled == command.scheduled
    if command.topic:
        assert record.topic == command.topic
    if command.payload is not None:
        assert record.payload == command.payload
    if command.result is not None:
        assert record.result == command.result


@given(record=TASKS, command=COMMITS)
def test_what_does_not_depend_on_the_task_can_do_without_it(
    record: TaskRecord, command: CommitRecord
) -> None:
    change = commit(record, command, NOW, DEFAULTS, middle)
    if depends_on_task(command):
        assert {"state", "nonce", "attempts"} <= change.require.keys()
    else:
        assert commit(None, command, NOW, DEFAULTS, unused) == change
        assert change.require == ({"nonce": command.nonce} if command.nonce else {})
        assert change.attempts == 0


@given(record=TASKS, command=COMMITS)
def test_a_commit_that_only_completes_makes_the_change_that_completes(
    record: TaskRecord, command: CommitRecord
) -> None:
    for plain in (CommitRecord(command.id, command.nonce), command):
        if only_completes(record, plain):
            change = commit(None, plain, NOW, DEFAULTS, unused)
            assert msgspec.structs.replace(change, require={}) == complete(NOW)
    assert only_completes(record, CommitRecord(command.id, command.nonce))
    assert not only_completes(record, CommitRecord(command.id, OTHER))


def test_a_plain_commit_completes() -> None:
    record = task(ACTIVE, attempts=2, error="boom", outcome="")
    change = commit(None, CommitRecord("1"), NOW, DEFAULTS, unused)
    assert members_of(change, record) == {"state": COMPLETED, "nonce": "", "committed": NOW, "error": ""}


def test_made_active_it_gets_a_deadline_unless_it_has_one() -> None:
    record = task(PENDING, deadline=None)
    apply(record, commit(record, CommitRecord("1", state=ACTIVE), NOW, DEFAULTS, unused))
    assert (record.deadline, record.implied) == (NOW + DEFAULT_TIMEOUT, True)
    record = task(PENDING, deadline=NOW + SECOND)
    apply(record, commit(record, CommitRecord("1", state=ACTIVE), NOW, DEFAULTS, unused))
    assert (record.deadline, record.implied) == (NOW + SECOND, False)


@given(record=TASKS, other=TASKS, command=COMMITS)
def test_a_guard_names_every_member_that_the_decision_was_made_from(
    record: TaskRecord, other: TaskRecord, command: CommitRecord
) -> None:
    """A task may be replaced between reading and writing: where the guard holds, the change is right."""
    commands: list[Command] = [
        command,
        ClaimById("N", NOW, force=True),
        ClaimById("N", NOW),
        Extend("AAAABBBBCCCCDDDD", NOW),
        Release("AAAABBBBCCCCDDDD"),
        Lapse(),
        Expire(),
    ]
    for each in commands:
        try:
            change = decide(record, each, NOW, DEFAULTS, middle)
        except Conflict:
            continue
        required = {name: value for name, value in change.require.items() if not isinstance(value, NotBy)}
        replaced = msgspec.structs.replace(other, **required)
        if holds(replaced, change):
            assert decide(replaced, each, NOW, DEFAULTS, middle) == change
        else:
            assert required != change.require  # the other one has expired


# ---- what the server does by itself ------------------------------------------------------------------


def test_a_lapse_counts_from_the_deadline() -> None:
    policy = RetryPolicy(delay=SECOND, jitter=0)
    record = task(ACTIVE, attempts=1, deadline=NOW + 5, retry=policy)
    change = lapse(record, NOW + 5, DEFAULTS, unused)
    assert change.require == {
        "state": ACTIVE,
        "nonce": record.nonce,
        "attempts": 1,
        "deadline": NOW + 5,
        "retry": policy,
    }
    assert members_of(change, record) == {
        "state": PENDING,
        "nonce": "",
        "error": DEADLINE_EXCEEDED,
        "scheduled": NOW + 5 + SECOND,
    }


def test_a_lapse_without_a_policy_keeps_the_place() -> None:
    record = task(ACTIVE, attempts=7)
    assert members_of(lapse(record, NOW, DEFAULTS, unused), record) == {
        "state": PENDING,
        "nonce": "",
        "error": DEADLINE_EXCEEDED,
    }


def test_a_lapse_without_attempts_left_is_a_dead_letter() -> None:
    record = task(ACTIVE, attempts=3)
    assert members_of(lapse(record, NOW, RetryDefaults(max_attempts=3), unused), record) == {
        "state": ARCHIVED,
        "nonce": "",
        "error": DEADLINE_EXCEEDED,
        "outcome": FAILED,
    }


def test_expiring() -> None:
    record = task(attempts=2, error="boom", expires=NOW)
    change = expire(record, NOW)
    assert change.require == {"state": PENDING, "nonce": "", "attempts": 2, "expires": NOW}
    assert members_of(change, record) == {"state": ARCHIVED, "outcome": EXPIRED}


@pytest.mark.parametrize("state", STATES)
def test_what_is_handed_in_is_made_whole(state: int) -> None:
    record = task(state, deadline=None)
    complete_on_insert(record, NOW)
    assert record.deadline == (NOW + DEFAULT_TIMEOUT if state == ACTIVE else None)
    assert record.implied is (state == ACTIVE)
    assert record.committed == (NOW if state == COMPLETED else None)


@given(record=TASKS)
def test_tasks_that_are_found_incomplete_are_those_made_whole_on_insert(record: TaskRecord) -> None:
    """A database that finds them later makes them whole by the changes themselves."""
    later = msgspec.structs.replace(record)
    for change in completions(NOW):
        if holds(later, change):
            apply(later, change)
    complete_on_insert(record, NOW)
    assert record == later


@pytest.mark.parametrize("state", STATES)
def test_what_is_whole_stays_as_it_is(state: int) -> None:
    record = task(state, deadline=NOW - 5, committed=NOW - 6)
    complete_on_insert(record, NOW)
    assert (record.deadline, record.implied, record.committed) == (NOW - 5, False, NOW - 6)


# ---- backoff -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "delays"),
    [
        (None, [1, 2, 4, 8, 16]),
        ("exponential", [1, 2, 4, 8, 16]),
        ("linear", [1, 2, 3, 4, 5]),
        ("constant", [1, 1, 1, 1, 1]),
    ],
)
def test_backoff(kind: str | None, delays: list[int]) -> None:
    policy = RetryPolicy(backoff=kind)
    found = [backoff(policy, number, DEFAULTS, middle) // SECOND for number in range(1, 6)]
    assert found == delays
    assert backoff(policy, 0, DEFAULTS, middle) == SECOND


@given(
    kind=st.sampled_from([None, "constant", "linear", "exponential"]),
    failures=st.integers(0, 2**40),
    delay=st.integers(0, MAX_TIME),
    longest=st.integers(0, MAX_TIME),
    jitter=st.floats(0, 1),
    random=st.floats(0, 1, exclude_max=True),
)
def test_backoff_stays_within_its_bounds(
    kind: str | None, failures: int, delay: int, longest: int, jitter: float, random: float
) -> None:
    policy = RetryPolicy(backoff=kind, delay=delay, max_delay=longest, jitter=jitter)
    found = backoff(policy, failures, DEFAULTS, lambda: random)
    assert 0 <= found <= 2 * longest + 1
    exact = backoff(
        RetryPolicy(backoff=kind, delay=delay, max_delay=longest, jitter=0), failures, DEFAULTS, unused
    )
    assert exact <= longest
    # A float holds a delay of ten thousand years to some tens of microseconds.
    assert abs(found - exact) <= exact * jitter + 64
    for other in (failures + 1, failures * 2):
        assert backoff(RetryPolicy(None, kind, delay, longest, 0), other, DEFAULTS, unused) >= exact


def test_the_servers_defaults_fill_what_a_policy_leaves_open() -> None:
    defaults = RetryDefaults(delay=3 * SECOND, max_delay=5 * SECOND)
    assert backoff(RetryPolicy(), 1, defaults, middle) == 3 * SECOND
    assert backoff(RetryPolicy(), 2, defaults, middle) == 5 * SECOND
    assert backoff(RetryPolicy(delay=SECOND), 2, defaults, middle) == 2 * SECOND
    assert backoff(RetryPolicy(max_delay=9 * SECOND), 2, defaults, middle) == 6 * SECOND


def test_an_unknown_backoff_is_refused() -> None:
    with pytest.raises(BadRequest, match="constant, linear, exponential"):
        backoff(RetryPolicy(backoff="fibonacci"), 1, DEFAULTS, middle)


# ---- error texts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "boom", "x" * MAX_ERROR_BYTES, "\u00e9" * (MAX_ERROR_BYTES // 2)])
def test_short_errors_stay_as_they_are(text: str) -> None:
    assert shorten_error(text) == text


@given(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.integers(0, 4),
    st.sampled_from("x\u00e9\u20ac\U0001f400"),
)
def test_long_errors_are_cut_between_characters(text: str, missing: int, character: str) -> None:
    text = "x" * missing + character * MAX_ERROR_BYTES + text
    short = shorten_error(text)
    assert text.startswith(short)
    size = len(short.encode())
    assert MAX_ERROR_BYTES - 3 <= size <= MAX_ERROR_BYTES
