"""Holds a history of requests and answers against what a queue promises, whatever happened to it meanwhile.

A history is what clients saw: when each request was sent, when its answer came, and what it said. A request
without an answer may or may not have been carried out. `violations` names everything in a history that no
correct queue could have answered, and at the end what the queue holds. It shares no code with the server.

Times are seconds of one monotonic clock for all clients of a history. A claim or an extension for T seconds
cannot lapse earlier than T seconds after its request was sent, whenever the server received it.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

COMPLETED = 2

# The engine that keeps times most coarsely keeps milliseconds. In seconds.
PRECISION = 0.005

# How long a server may take to see that a client has gone, and to give back what it claimed. In seconds.
GIVE_BACK = 2.0


@dataclass(frozen=True)
class Request:
    """One request. `ended` is infinite where no answer came; `accepted`: the answer was a success.

    `noticed` is when the client of a request without an answer learned that none would come.
    """

    started: float
    ended: float
    accepted: bool = False
    noticed: float = field(default=math.inf, kw_only=True)

    @property
    def unanswered(self) -> bool:
        """Whether it is unknown if it was carried out."""
        return math.isinf(self.ended)


@dataclass(frozen=True)
class Insert(Request):
    """A new task, due at once."""

    task: str = ""
    priority: int = 0


@dataclass(frozen=True)
class Delivery:
    """A task as a claim handed it out."""

    task: str
    nonce: str
    attempts: int
    priority: int = 0


@dataclass(frozen=True)
class Claim(Request):
    """A poll for some of the due tasks. An accepted one handed out `deliveries`, in their order."""

    timeout: float = 0.0
    deliveries: tuple[Delivery, ...] = ()


@dataclass(frozen=True)
class Commit(Request):
    """The end of a claim: `outcome` is `completed`, `failed` or `released`."""

    task: str = ""
    nonce: str = ""
    outcome: str = "completed"


@dataclass(frozen=True)
class Extend(Request):
    """A new deadline for a claim, `timeout` seconds from when the request arrived."""

    task: str = ""
    nonce: str = ""
    timeout: float = 0.0


@dataclass(frozen=True)
class Left:
    """A task as it is read when everything is over."""

    state: int
    attempts: int = 0


@dataclass
class History:
    """All requests of all clients, and the tasks that are left at the end.

    `hidden_claims` are times, each from and to, in which a server may have held a claim of which no client
    knows: it asked its database for one, and the answer was lost.
    """

    requests: list[Request] = field(default_factory=list)
    left: dict[str, Left] = field(default_factory=dict)
    hidden_claims: list[tuple[float, float]] = field(default_factory=list)

    def hidden(self) -> list[tuple[float, float]]:
        """The times of those claims, and of the ones whose answer a client waited for in vain.

        A server that is there gives such a claim back as soon as it sees that its client has gone. What a
        killed server leaves behind lapses, and counts as an attempt.
        """
        unanswered = [each for each in self.requests if isinstance(each, Claim) and each.unanswered]
        return [*self.hidden_claims, *((each.started, each.noticed + GIVE_BACK) for each in unanswered)]


@dataclass
class _Held:
    """A delivery with all that is known of its claim."""

    claim: Claim
    delivery: Delivery
    commits: list[Commit] = field(default_factory=list)
    extensions: list[Extend] = field(default_factory=list)

    @property
    def ends_by_itself(self) -> float:
        """Before this moment its deadline cannot have passed."""
        granted = [self.claim.started + self.claim.timeout]
        granted += [each.started + each.timeout for each in self.extensions if each.accepted]
        return max(granted) - PRECISION

    @property
    def given_up(self) -> float:
        """Before this moment the owner has not ended it; infinite where it never did."""
        return min(
            (each.started for each in self.commits if each.accepted or each.unanswered), default=math.inf
        )

    @property
    def earliest_end(self) -> float:
        """Before this moment no other claim of the task can be made."""
        return min(self.ends_by_itself, self.given_up)

    def accepted(self, outcome: str) -> list[Commit]:
        return [each for each in self.commits if each.accepted and each.outcome == outcome]


def violations(history: History) -> list[str]:
    """What the history has that a queue must not do, each as a line that names the rule and the task."""
    claims = [each for each in history.requests if isinstance(each, Claim) and each.accepted]
    held = {delivery.nonce: _Held(claim, delivery) for claim in claims for delivery in claim.deliveries}
    for request in history.requests:
        if isinstance(request, Commit) and request.nonce in held:
            held[request.nonce].commits.append(request)
        elif isinstance(request, Extend) and request.nonce in held:
            held[request.nonce].extensions.append(request)
    owners: dict[str, list[_Held]] = defaultdict(list)
    for each in held.values():
        owners[each.delivery.task].append(each)
    for holders in owners.values():
        _sort(holders)
    return [
        *_lost(history, owners),
        *_nonces(claims),
        *_owners(owners),
        *_late(owners),
        *_attempts(history, owners),
        *_order(history, claims, owners),
        *_refused(owners),
    ]


def _sort(holders: list[_Held]) -> None:
    """Bring the claims of a task into the order in which they were made, as far as that can be known.

    Of two whose requests overlap, the one with fewer attempts was first.
    """
    holders.sort(key=lambda each: each.claim.ended)
    for number in range(1, len(holders)):
        while number and _overlap(*(pair := holders[number - 1 : number + 1])):
            if pair[0].delivery.attempts <= pair[1].delivery.attempts:
                break
            holders[number - 1 : number + 1] = reversed(pair)
            number -= 1


def _overlap(one: _Held, other: _Held) -> bool:
    """Whether it cannot be known from the times alone which of two claims was made first."""
    return one.claim.started <= other.claim.ended and other.claim.started <= one.claim.ended


def _lost(history: History, owners: dict[str, list[_Held]]) -> Iterator[str]:
    """What was acknowledged is there at the end: tasks, and that they are completed."""
    for request in history.requests:
        if isinstance(request, Insert) and request.accepted and request.task not in history.left:
            yield f"lost: {request.task} was inserted and is not there"
    for task, holders in owners.items():
        done = any(each.accepted("completed") for each in holders)
        left = history.left.get(task)
        if done and left is not None and left.state != COMPLETED:
            yield f"lost: {task} was completed and is in state {left.state}"


def _nonces(claims: Iterable[Claim]) -> Iterator[str]:
    """No nonce is handed out twice."""
    counts = Counter(delivery.nonce for claim in claims for delivery in claim.deliveries)
    for nonce, count in counts.items():
        if count > 1:
            yield f"nonce: {nonce} was handed out {count} times"


def _owners(owners: dict[str, list[_Held]]) -> Iterator[str]:
    """A task is claimed by one at a time, and not at all once it is completed."""
    for task, holders in owners.items():
        for number, later in enumerate(holders):
            for earlier in holders[:number]:
                if not (_may_follow(earlier, later) or _may_follow(later, earlier)):
                    yield f"owners: {task} was handed out while another claim of it was in force"
            done = min(
                (each.ended for other in holders for each in other.accepted("completed")), default=math.inf
            )
            if later.claim.started > done:
                yield f"owners: {task} was handed out after it was completed"


def _may_follow(earlier: _Held, later: _Held) -> bool:
    """Whether `later` can have been claimed when `earlier` was over."""
    return later.claim.ended >= max(earlier.earliest_end, earlier.claim.started)


def _late(owners: dict[str, list[_Held]]) -> Iterator[str]:
    """Once another claim was handed out, the claim before it can change nothing."""
    for task, holders in owners.items():
        for number, earlier in enumerate(holders):
            for later in holders[number + 1 :]:
                if _overlap(earlier, later):
                    continue
                for request in (*earlier.commits, *earlier.extensions):
                    if request.accepted and request.started > later.claim.ended:
                        yield f"late: {task} took a change of a claim that another claim had replaced"
        completed = [commit for each in holders for commit in each.accepted("completed")]
        if len(completed) > 1:
            yield f"late: {task} was completed {len(completed)} times"


def _attempts(history: History, owners: dict[str, list[_Held]]) -> Iterator[str]:
    """A delivery counts the claims before it that ended in a failure or lapsed, and itself."""
    hidden = history.hidden()
    for task, holders in owners.items():
        least = most = 1
        for number, each in enumerate(holders):
            # A claim whose answer was lost may have had the task: it lapses, or is given back.
            unseen = sum(began < each.claim.ended for began, _ in hidden)
            if not least <= each.delivery.attempts <= most + unseen:
                yield (
                    f"attempts: {task} was handed out with {each.delivery.attempts} attempts, "
                    f"not {least} to {most + unseen}"
                )
            if any(_overlap(each, other) for other in holders[number + 1 :]):
                most += 1
            elif each.accepted("failed"):
                least, most = least + 1, most + 1
            elif each.accepted("released"):
                pass
            elif math.isinf(each.given_up):
                least, most = least + 1, most + 1  # it lapsed
            else:
                most += 1  # it lapsed, or a commit without an answer ended it


def _order(history: History, claims: list[Claim], owners: dict[str, list[_Held]]) -> Iterator[str]:
    """A claim hands out no task while one is due, and was not claimed yet, that comes first.

    That is one of a higher priority, or of the same that was there before the other came in. The tasks of one
    answer are claimed in their order; one that came in meanwhile may stand behind them.
    """
    hidden = history.hidden()
    first = {task: holders[0] for task, holders in owners.items()}
    inserts = [each for each in history.requests if isinstance(each, Insert) and each.accepted]
    arrived = {insert.task: insert for insert in inserts}
    coming = deque(sorted(inserts, key=lambda insert: insert.ended))
    waiting: dict[str, Insert] = {}
    for claim in sorted(claims, key=lambda claim: claim.started):
        while coming and coming[0].ended < claim.started:
            insert = coming.popleft()
            waiting[insert.task] = insert
        for task in [task for task in waiting if task in first and first[task].claim.ended < claim.started]:
            del waiting[task]
        if not claim.deliveries or any(
            began < claim.ended and over > claim.started for began, over in hidden
        ):
            continue
        hidden_before = any(began < claim.ended for began, _ in hidden)
        places = {delivery.task: place for place, delivery in enumerate(claim.deliveries)}
        lowest = min(claim.deliveries, key=lambda delivery: delivery.priority)
        # When the last of each priority came in; one that is tried again may have got another place.
        came: dict[int, float] = {}
        for delivery in claim.deliveries:
            earliest = first.get(delivery.task)
            if earliest is not None and earliest.claim is claim and delivery.task in arrived:
                came[delivery.priority] = max(came.get(delivery.priority, 0), arrived[delivery.task].started)
        for insert in waiting.values():
            taken = first.get(insert.task)
            if insert.priority <= lowest.priority and (
                insert.ended >= came.get(insert.priority, 0) or (taken is not None and taken.claim is claim)
            ):
                continue
            if hidden_before and (taken is None or taken.delivery.attempts > 1):
                continue  # it may have been claimed by a server that died, and have lapsed later
            if taken is None or taken.claim.started > claim.ended:
                yield f"order: {lowest.task} was handed out and {insert.task} left behind"
            elif taken.claim is claim and places[insert.task] > places[lowest.task]:
                yield f"order: {lowest.task} was handed out before {insert.task}"


def _refused(owners: dict[str, list[_Held]]) -> Iterator[str]:
    """What is asked for under a claim is accepted while the claim is certain to be in force."""
    for task, holders in owners.items():
        for each in holders:
            for request in (*each.commits, *each.extensions):
                if request.accepted or request.unanswered:
                    continue
                until = each.claim.started + each.claim.timeout
                for extension in sorted(each.extensions, key=lambda extension: extension.started):
                    granted = extension.started + extension.timeout
                    if extension.accepted and extension.ended <= request.started:
                        until = granted
                    elif extension.accepted or extension.unanswered:
                        until = min(until, granted)
                if request.ended < min(until - PRECISION, each.given_up):
                    yield f"refused: {task} was still claimed under {each.delivery.nonce}"
