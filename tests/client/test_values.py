"""Payloads and results take what programs have; what JSON cannot write is refused with its place."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from enum import Enum, IntEnum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from pydantic import BaseModel, Field

from ratus import Client, Commit, NotFound, Task, TaskFailed, TaskState
from ratus.testing import RatusServer
from tests.client.support import connect

NUMBER = UUID("12345678-1234-5678-1234-567812345678")


class Colour(Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Point(NamedTuple):
    x: int
    y: int


@dataclass
class Page:
    """A dataclass with all kinds of members."""

    id: UUID
    seen: datetime
    size: Decimal
    colour: Colour
    file: Path
    links: tuple[str, ...]


class Mail(BaseModel):
    """A pydantic model with another name on the wire."""

    sender: str = Field(alias="from")
    page: Page | None = None


PAGE = Page(
    NUMBER,
    datetime(2026, 1, 31, 12, tzinfo=UTC),
    Decimal("1.10"),
    Colour.RED,
    Path("/tmp/a"),
    ("a", "b"),
)
WRITTEN = {
    "id": str(NUMBER),
    "seen": "2026-01-31T12:00:00Z",
    "size": "1.10",
    "colour": "red",
    "file": "/tmp/a",
    "links": ["a", "b"],
}
MAIL = Mail.model_validate({"from": "ann", "page": PAGE})

VALUES: list[tuple[Any, Any]] = [
    (PAGE, WRITTEN),
    (MAIL, {"from": "ann", "page": WRITTEN}),
    ((1, (2, 3)), [1, [2, 3]]),
    (Point(1, 2), [1, 2]),
    (NUMBER, str(NUMBER)),
    (datetime(2026, 1, 31, 12, 0, 0, 5, UTC), "2026-01-31T12:00:00.000005Z"),
    (date(2026, 1, 31), "2026-01-31"),
    (timedelta(seconds=90), "PT1M30S"),
    (Decimal("0.1"), "0.1"),
    (Colour.RED, "red"),
    (Level.HIGH, 3),
    ({Colour.RED: Level.HIGH, NUMBER: (PAGE,)}, {"red": 3, str(NUMBER): [WRITTEN]}),
    (PurePosixPath("a/b"), "a/b"),
    (MappingProxyType({"a": (1,)}), {"a": [1]}),
    ([{"deep": [{"page": PAGE}]}], [{"deep": [{"page": WRITTEN}]}]),
]


@pytest.mark.parametrize(("value", "written"), VALUES, ids=[type(value).__name__ for value, _ in VALUES])
def test_payloads_and_results_take_what_programs_have(
    kind: str, server: RatusServer, value: Any, written: Any
) -> None:
    with connect(kind, server.url) as client:
        client.insert_tasks([Task(id="1", topic="t", payload=value)])
        delivery = client.poll("t")
        assert delivery.payload == written
        assert delivery.set_result(value).set_payload(value).commit().result == written
        assert client.patch_task("1", Commit(payload=value, result=value)).payload == written


def test_what_was_written_is_decoded_again(ratus: Any) -> None:
    ratus.insert_tasks([Task(id="1", topic="t", payload=PAGE), Task(id="2", topic="t", payload=MAIL)])
    assert ratus.poll("t").decode(Page) == PAGE
    assert ratus.poll("t").decode(Mail) == MAIL


LOOP: list[Any] = []
LOOP.append(LOOP)
DEEP: Any = 1
for _ in range(300):
    DEEP = [DEEP]


class Loose(BaseModel):
    """A model whose member may be anything."""

    member: Any = None


@dataclass(init=False)
class Late:
    """A dataclass whose member has no value before it is given one."""

    late: int


RING = Loose()
RING.member = [RING]
UNSET = Late.__new__(Late)

REFUSED: list[tuple[Any, str]] = [
    (object(), "it is of type object"),
    ({"a": [1, {2}]}, r"a\[1\] is of type set"),
    ({"a": {"b c": b"x"}}, r"a\['b c'\] is of type bytes.*base64"),
    ({"a": [float("nan")]}, r"a\[0\] is nan"),
    ([float("inf")], r"\[0\] is inf"),
    ({1: 2}, "has the name 1, which is not a string"),
    ({"a": {None: 2}}, "a has the name None"),
    (Page, "type"),
    ({"f": len}, "f is of type builtin_function_or_method"),
    ({"page": {"links": (1, (object(),))}}, r"page\.links\[1\]\[0\] is of type object"),
    (LOOP, "nested too deeply"),
    (DEEP, "nested too deeply"),
    ({"a": ["\ud800"]}, r"a\[0\] holds a lone surrogate"),
    ({"\ud800": 1}, "holds a lone surrogate"),
    ({"a": [Decimal("NaN")]}, r"a\[0\] is NaN"),
    ({"a": Decimal("-Infinity")}, "a is -Infinity"),
    ({"page": [Loose(member={"n": float("nan")})]}, r"page\[0\]\.member\.n is nan"),
    (Loose(member=(1, float("inf"))), r"member\[1\] is inf"),
    ({"a": Loose(member=b"\xff")}, "a cannot be written: .*utf-8"),
    ({"a": RING}, "a cannot be written: .*Circular reference"),
    ({"a": UNSET}, r"a\.late has no value"),
    ({"red": 1, Colour.RED: 2}, "has the name 'red' twice"),
    ({"a": [10**5_000]}, r"a\[0\] is an integer of more than 4,300 digits"),
]


@pytest.mark.parametrize(("value", "text"), REFUSED)
def test_what_cannot_be_written_is_refused_with_its_place(ratus: Any, value: Any, text: str) -> None:
    ratus.insert_task(Task(id="1", topic="t"))
    delivery = ratus.poll("t")
    for call in (delivery.set_result, delivery.set_payload):
        with pytest.raises(ValueError, match=f"(?s)(result|payload): .*{text}"):
            call(value)
    with pytest.raises(ValueError, match=f"(?s){text}"):
        ratus.insert_task(Task(id="2", topic="t", payload=value))
    with pytest.raises(ValueError, match=f"(?s){text}"):
        ratus.patch_task("1", Commit(nonce=delivery.nonce, result=value))
    assert ratus.get_task("1").state is TaskState.ACTIVE


def test_a_result_that_cannot_be_written_fails_its_task_and_says_so(kind: str, live: RatusServer) -> None:
    def handle(delivery: Any) -> None:
        client.stop()
        delivery.set_result({"a": object()})

    with connect(kind, live.url) as client:
        client.insert_task(Task(id="1", topic="t"))
        client.subscribe("t", handle)
        assert "result: must be JSON: a is of type object" in client.get_task("1").error


def test_the_environment_says_where_the_server_is(
    kind: str, server: RatusServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.client.support import ClientOnLoop

    def make(*given: Any, **options: Any) -> Any:
        return Client(*given, **options) if kind == "sync" else ClientOnLoop(*given, **options)

    with RatusServer("--auth-tokens", "secret-of-the-tests") as guarded:
        monkeypatch.setenv("RATUS_URL", guarded.url)
        monkeypatch.setenv("RATUS_TOKEN", "secret-of-the-tests")
        with make() as client:
            assert client.list_topics() == []
            assert client.url == guarded.url
        with make(server.url, token="") as client:
            assert client.url == server.url
    monkeypatch.delenv("RATUS_URL")
    with make() as client:
        assert client.url == "http://127.0.0.1:8000"


def test_a_task_that_failed_is_an_error_when_it_is_to_be_checked(ratus: Any, server: RatusServer) -> None:
    ratus.insert_tasks([Task(id=name, topic="t") for name in ("good", "bad", "open")])
    ratus.patch_task("good", Commit(result=7))
    ratus.patch_task("bad", Commit(error="no such page\nTraceback", state=TaskState.ARCHIVED))

    assert ratus.wait_for_task("good", "30s", check=True).result == 7
    with pytest.raises(TaskFailed, match=r"task 'bad' in 't': no such page$") as caught:
        ratus.wait_for_task("bad", check=True)
    assert caught.value.task.id == "bad"
    assert ratus.wait_for_task("bad").state is TaskState.ARCHIVED
    with pytest.raises(TimeoutError, match="task 'open' in 't' is not completed yet: it is pending"):
        ratus.wait_for_task("open", 0, check=True)
    with pytest.raises(NotFound):
        ratus.wait_for_task("none", 0, check=True)
