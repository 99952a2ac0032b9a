"""Slips of whoever writes the program: each is refused at once, in words that help; nothing is sent."""

from __future__ import annotations

import asyncio
import inspect
import warnings
from typing import Any

import pytest
from pydantic import ValidationError

from ratus import Client, Commit, CommitItem, Promise, Retry, Task
from ratus.calls import responses
from ratus.core.models import Extension, Poll, PollRequest, TopicPatch, WireModel
from ratus.testing import RatusServer
from tests.client.support import ScriptedServer, answer, connect

MADE: list[type[WireModel]] = [
    Task,
    Retry,
    Commit,
    CommitItem,
    Promise,
    Poll,
    PollRequest,
    Extension,
    TopicPatch,
]


@pytest.mark.parametrize("model", MADE)
def test_a_member_that_a_model_does_not_have_is_refused(model: Any) -> None:
    with pytest.raises(ValidationError, match=rf"{model.__name__} has no member 'nonsense'"):
        model(nonsense=1)
    with pytest.raises(ValidationError, match="nonsense"):
        model(nonsense=None)


def test_the_member_that_was_probably_meant_is_named() -> None:
    with pytest.raises(ValidationError, match=r"no member 'paylod'; did you mean 'payload'\?"):
        Task(id="1", paylod=1)  # type: ignore[call-arg]  # the type checker sees it as well
    with pytest.raises(ValidationError, match=r"no member 'max_attempst'; did you mean 'max_attempts'\?"):
        Retry(max_attempst=3)  # type: ignore[call-arg]  # the type checker sees it as well
    with pytest.raises(ValidationError, match="did you mean 'defer'"):
        Commit(Defer="1s")  # type: ignore[call-arg]  # the type checker sees it as well
    nested: Any = {"max_attempst": 3}
    with pytest.raises(ValidationError, match="max_attempst"):
        Task(id="1", retry=nested)


def test_answers_of_a_newer_server_stay_readable(kind: str) -> None:
    body = b'{"_id":"1","topic":"t","colour":"red","retry":{"max_attempts":3,"colour":1}}'
    with ScriptedServer([answer(200, body)]) as server, connect(kind, server.url) as client:
        task = client.get_task("1")
    assert task.retry == Retry(max_attempts=3)
    assert responses.read_topics(b'{"data":[{"name":"t","colour":1}],"colour":2}')[0].name == "t"
    assert Task.model_validate({"_id": "1", "colour": 1}) == Task.model_validate_json(
        '{"_id":"1","colour":1}'
    )


@pytest.mark.parametrize("model", [Task, Retry, Commit, CommitItem, Promise])
def test_what_type_checkers_see_is_what_a_model_takes(model: type[WireModel]) -> None:
    source = inspect.getsource(model)
    declared = source[source.index("*,") : source.index(") -> None")]
    names = [line.partition(":")[0].strip() for line in declared.splitlines()[1:-1]]
    assert sorted(names) == sorted(model.model_fields)


SLIPS: list[tuple[Any, str]] = [
    (lambda c: c.insert_task({"_id": "1"}), r"give a Task, not a dict; Task\(\*\*members\)"),
    (lambda c: c.upsert_task("1"), "give a Task, not a str"),
    (lambda c: c.insert_tasks(Task(id="1")), "several Tasks, such as a list, not a Task"),
    (lambda c: c.insert_tasks([{"_id": "1"}]), "give a Task, not a dict"),
    (lambda c: c.insert_tasks({"_id": "1"}), "several Tasks"),
    (lambda c: c.insert_tasks(None), "several Tasks"),
    (lambda c: c.patch_task("1", {"state": 2}), "give a Commit, not a dict"),
    (lambda c: c.patch_tasks([Commit()]), "give a CommitItem, not a Commit"),
    (lambda c: c.patch_tasks(CommitItem(id="1")), "several CommitItems"),
    (lambda c: c.get_task(1), "as text, not as int"),
    (lambda c: c.delete_task(Task(id="1")), "as text, not as Task"),
    (lambda c: c.get_topic(None), "topic"),
    (lambda c: c.poll(1), "topics: give a text"),
    (lambda c: c.poll(["t", 1]), "topics: each of them has to be a text"),
]


@pytest.mark.parametrize(("call", "text"), SLIPS)
def test_what_is_not_of_the_right_kind_is_refused_before_it_is_sent(kind: str, call: Any, text: str) -> None:
    with (
        ScriptedServer([]) as server,
        connect(kind, server.url) as client,
        pytest.raises((TypeError, ValueError), match=text),
    ):
        call(client)
    assert server.requests == []


def test_messages_say_what_would_be_right(kind: str, ratus: Any, server: RatusServer) -> None:
    with pytest.raises(ValidationError, match="a duration is so many seconds, and nan is no number"):
        Task(defer=float("nan"))
    with pytest.raises(ValueError, match=r"state: 'activ' is none of TaskState\.PENDING, TaskState\.ACTIVE"):
        ratus.list_tasks("t", state="activ")
    ratus.insert_task(Task(id="1", topic="t"))
    delivery = ratus.poll("t")
    with pytest.raises(TypeError, match="fail takes a text or an exception, not object"):
        delivery.fail(object())
    delivery.fail("a reason").commit()


def test_a_synchronous_client_within_an_event_loop_says_so(server: RatusServer) -> None:
    async def call(client: Client) -> None:
        client.list_topics()

    with Client(server.url) as client:
        with pytest.warns(RuntimeWarning, match="AsyncClient") as caught:
            asyncio.run(call(client))
        assert caught[0].filename == __file__
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            asyncio.run(call(client))  # once is enough
            client.list_topics()


@pytest.mark.parametrize(
    "make_call",
    [
        lambda client: client.list_topics(),
        lambda client: client.insert_tasks([Task(id="1", topic="t")]),
        lambda client: list(client.iter_topics()),
        lambda client: client.poll("t"),
    ],
)
def test_the_warning_names_the_line_of_the_program(server: RatusServer, make_call: Any) -> None:
    async def call(client: Client) -> None:
        make_call(client)

    with Client(server.url) as client, pytest.warns(RuntimeWarning, match="AsyncClient") as caught:
        asyncio.run(call(client))
    assert caught[0].filename == __file__


def test_a_synchronous_worker_within_an_event_loop_is_refused() -> None:
    async def work(client: Client) -> None:
        client.subscribe("t", print)

    with Client("http://127.0.0.1:1") as client, pytest.raises(RuntimeError, match="AsyncClient"):
        asyncio.run(work(client))
