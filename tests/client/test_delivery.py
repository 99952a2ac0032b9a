"""What a delivery says about its task, and what becomes of the task by what is said about it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, ValidationError
from typing_extensions import TypedDict  # before Python 3.12 pydantic does not take that of typing

from ratus import Conflict, NotFound, Retry, Task, TaskState
from ratus.testing import RatusServer

WHEN = "2030-01-31T12:00:00Z"


@pytest.fixture
def claimed(ratus: Any) -> Any:
    """A task, claimed for a minute."""
    ratus.insert_task(Task(id="1", topic="t", payload={"n": 1, "at": WHEN}, retry=Retry(max_attempts=2)))
    return ratus.poll("t", timeout="1m", consumer="me")


class Model(BaseModel):
    n: int
    at: datetime


@dataclass
class Data:
    n: int
    at: datetime


class Typed(TypedDict):
    n: int
    at: datetime


@pytest.mark.parametrize("model", [Model, Data, Typed])
def test_the_payload_is_decoded_into_a_type(claimed: Any, model: Any) -> None:
    decoded = claimed.decode(model)
    at = decoded["at"] if model is Typed else decoded.at
    assert isinstance(decoded, dict if model is Typed else model)
    assert at.year == 2030


def test_a_payload_of_another_type_is_refused(claimed: Any, ratus: Any) -> None:
    with pytest.raises(ValidationError):
        claimed.decode(list[int])
    assert claimed.decode(Annotated[dict[str, Any], ["a list cannot be hashed"]])["n"] == 1
    ratus.insert_task(Task(id="2", topic="t"))
    empty = ratus.poll("t")
    assert empty.payload is None
    assert empty.decode(type(None)) is None


def test_the_trace_context_comes_with_the_task(ratus: Any) -> None:
    trace = {"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "baggage": "a=1"}
    ratus.insert_task(Task(id="1", topic="t", trace=trace))
    assert ratus.poll("t").task.trace == trace
    assert ratus.get_task("1").trace == trace


def test_a_delivery_tells_of_its_task(claimed: Any, server: RatusServer) -> None:
    assert (claimed.id, claimed.topic, claimed.attempts) == ("1", "t", 1)
    assert claimed.payload is claimed.payload
    assert claimed.payload == {"n": 1, "at": WHEN}
    task = claimed.task
    assert task is claimed.task
    assert (task.id, task.state, task.nonce, task.consumer) == ("1", TaskState.ACTIVE, claimed.nonce, "me")
    assert task.retry == Retry(max_attempts=2)
    assert task.payload == claimed.payload
    assert claimed.deadline == server.now + timedelta(minutes=1)
    assert "'1'" in repr(getattr(claimed, "_target", claimed))
    assert not claimed.lost
    assert not claimed.settled


# ---- what is to become of the task ----------------------------------------------------------------


def test_nothing_set_completes_it(claimed: Any) -> None:
    task = claimed.commit()
    assert (task.state, task.nonce, task.payload) == (TaskState.COMPLETED, "", claimed.payload)
    assert claimed.settled
    with pytest.raises(Conflict):
        claimed.commit()
    assert claimed.lost


def test_setting_is_chained_and_committed_at_once(claimed: Any) -> None:
    task = claimed.set_payload([]).set_result({"a": 0}).set_topic("u").set_state(TaskState.ARCHIVED).commit()
    assert (task.payload, task.result, task.topic, task.state) == ([], {"a": 0}, "u", TaskState.ARCHIVED)


def test_falsy_values_are_values(claimed: Any) -> None:
    task = claimed.set_payload(0).set_result("").commit()
    assert (task.payload, task.result) == (0, "")


def test_giving_back(claimed: Any) -> None:
    task = claimed.abstain().commit()
    assert (task.state, task.attempts) == (TaskState.PENDING, 0)


def test_archiving(claimed: Any) -> None:
    assert claimed.archive().commit().state is TaskState.ARCHIVED


def test_retrying_later(claimed: Any, server: RatusServer) -> None:
    task = claimed.retry("10s").commit()
    assert (task.state, task.attempts) == (TaskState.PENDING, 0)
    assert task.scheduled == server.now + timedelta(seconds=10)


def test_rescheduling(claimed: Any) -> None:
    task = claimed.reschedule(WHEN).commit()
    assert task.state is TaskState.PENDING
    assert task.scheduled.year == 2030


def test_the_later_of_defer_and_scheduled_counts(claimed: Any, server: RatusServer) -> None:
    claimed.set_scheduled(WHEN).set_defer("1s").set_scheduled(WHEN).set_defer("10s").abstain()
    assert claimed.commit().scheduled == server.now + timedelta(seconds=10)


def test_failing_follows_the_policy(claimed: Any, ratus: Any, server: RatusServer) -> None:
    task = claimed.fail("it broke").commit()
    assert (task.state, task.error, task.attempts) == (TaskState.PENDING, "it broke", 1)
    assert task.scheduled > server.now
    server.advance("1h")
    task = ratus.poll("t").fail(ValueError("again")).commit()
    assert (task.state, task.outcome) == (TaskState.ARCHIVED, "failed")
    assert task.error.startswith("ValueError: again")


def test_failing_with_a_delay_of_its_own(claimed: Any, server: RatusServer) -> None:
    task = claimed.set_state(TaskState.COMPLETED).fail("later").set_defer("5m").commit()
    assert (task.state, task.attempts) == (TaskState.PENDING, 1)
    assert task.scheduled == server.now + timedelta(minutes=5)


def test_reset_forgets_everything(claimed: Any) -> None:
    task = claimed.set_result(1).fail("no").set_nonce("x").reset().commit()
    assert (task.state, task.error, task.result) == (TaskState.COMPLETED, "", None)


def test_a_commit_under_another_nonce_is_refused_and_a_forced_one_is_not(claimed: Any) -> None:
    with pytest.raises(Conflict):
        claimed.set_nonce("another").commit()
    assert claimed.force().commit().state is TaskState.COMPLETED


def test_releasing_is_not_failing(claimed: Any, ratus: Any) -> None:
    claimed.set_result("ignored").release()
    assert claimed.settled
    task = ratus.get_task("1")
    assert (task.state, task.attempts, task.result) == (TaskState.PENDING, 0, None)
    again = ratus.poll("t")
    with pytest.raises(Conflict):
        claimed.release()
    assert again.commit().state is TaskState.COMPLETED


def test_extending(claimed: Any, server: RatusServer) -> None:
    server.advance("30s")
    claimed.extend()
    assert claimed.deadline == server.now + timedelta(minutes=1), "as long as it was claimed for"
    claimed.extend("2h")
    assert claimed.deadline == server.now + timedelta(hours=2)
    claimed.extend(deadline=server.now + timedelta(seconds=90))
    assert claimed.deadline == server.now + timedelta(seconds=90)
    assert not claimed.lost
    server.advance("80s")
    assert claimed.commit().state is TaskState.COMPLETED


def test_a_claim_that_went_to_somebody_else_is_lost(claimed: Any, ratus: Any, server: RatusServer) -> None:
    server.advance("2m")  # past the deadline, and past the policy's delay after the lapse
    other = ratus.poll("t")
    assert other.id == "1"
    with pytest.raises(Conflict):
        claimed.extend()
    assert claimed.lost
    with pytest.raises(Conflict):
        claimed.commit()
    assert other.commit().state is TaskState.COMPLETED


def test_a_deleted_task_is_lost(claimed: Any, ratus: Any) -> None:
    ratus.delete_task("1")
    with pytest.raises(NotFound):
        claimed.commit()
    assert claimed.lost


def test_a_claim_past_its_deadline_is_lost_by_ones_own_clock(ratus: Any) -> None:
    ratus.insert_tasks([Task(id="1"), Task(id="2")], topic="t")
    assert ratus.poll("t", timeout="1us").lost
    done = ratus.poll("t", timeout="5s")
    assert not done.lost
    done.commit()
    assert not done.lost


def test_wrong_values_are_refused_where_they_are_set(claimed: Any) -> None:
    naive = datetime(2026, 1, 31)  # noqa: DTZ001 - a naive time is the point
    calls: list[Callable[[], Any]] = [
        lambda: claimed.set_result(float("nan")),
        lambda: claimed.set_result({1: 2}),
        lambda: claimed.set_result(object()),
        lambda: claimed.set_result("\ud800"),
        lambda: claimed.set_payload(None),
        lambda: claimed.set_topic(""),
        lambda: claimed.set_topic("x" * 2_000),
        lambda: claimed.set_state(7),
        lambda: claimed.set_defer("soon"),
        lambda: claimed.set_scheduled(naive),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"."):
            call()
    assert claimed.commit().state is TaskState.COMPLETED


# ---- as a context manager -------------------------------------------------------------------------


def test_leaving_it_commits(claimed: Any, ratus: Any) -> None:
    with claimed as delivery:
        delivery.set_result("done")
    task = ratus.get_task("1")
    assert (task.state, task.result) == (TaskState.COMPLETED, "done")


def test_leaving_it_by_an_exception_fails(claimed: Any, ratus: Any) -> None:
    def work() -> None:
        with claimed as delivery:
            delivery.set_result("half")
            delivery.payload["n"] / 0

    with pytest.raises(ZeroDivisionError):
        work()
    task = ratus.get_task("1")
    assert (task.state, task.attempts, task.result) == (TaskState.PENDING, 1, None)
    assert task.error.startswith("ZeroDivisionError: division by zero\n\nTraceback")
    assert "test_delivery.py" in task.error


def test_leaving_it_by_an_exit_gives_it_back(claimed: Any, ratus: Any) -> None:
    with pytest.raises(SystemExit), claimed:
        raise SystemExit
    task = ratus.get_task("1")
    assert (task.state, task.attempts, task.error) == (TaskState.PENDING, 0, "")


def test_what_was_settled_within_stays_so(claimed: Any, ratus: Any) -> None:
    with claimed as delivery:
        delivery.archive().commit()
    assert ratus.get_task("1").state is TaskState.ARCHIVED


def test_an_error_on_leaving_does_not_hide_the_first(claimed: Any, ratus: Any) -> None:
    def work() -> None:
        with claimed as delivery:
            ratus.delete_task("1")
            delivery.payload["n"] / 0

    with pytest.raises(ZeroDivisionError):
        work()
    assert claimed.lost
