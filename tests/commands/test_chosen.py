"""Labels, choices, limits and holds on the command line."""

from __future__ import annotations

import json
from datetime import timedelta

import pytest

from ratus import Client, Limits, PerLabel, Rate, Task
from ratus.testing import RatusServer
from tests.commands.conftest import Ratus

MINUTE = timedelta(minutes=1)


def test_labels_are_pushed_and_listed(ratus: Ratus, client: Client) -> None:
    flags = ["--label", "customer=acme", "--label", "region=eu", "--label", "region=u=s"]
    assert ratus("push", "t", "--id", "1", *flags).code == 0
    assert client.get_task("1").labels == {"customer": "acme", "region": ["eu", "u=s"]}
    lines = '{"_id": "2"}\n{"_id": "3", "labels": {"customer": "other"}}\n'
    assert ratus("push", "t", "--label", "customer=acme", stdin=lines).code == 0
    found = [task["_id"] for task in ratus("tasks", "t", "--label", "customer=acme").lines]
    assert found == ["1", "2"], "a task that says otherwise keeps its labels"
    assert [t["_id"] for t in ratus("tasks", "t", "--label", "region=eu", "--label", "region=u=s").lines] == [
        "1"
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["push", "t", "--label", "acme"], "argument --label: 'acme': it has no =; give NAME=VALUE, such as"),
        (["tasks", "t", "--label", "a b=c"], "argument --label: 'a b=c': \"a b\" is not a name of a label"),
        (["poll", "t", "--where", "eu"], "argument --where: 'eu': it has no ="),
        (["poll", "t", "--where", "a=1", "--where", "b=2"], "where: name one label"),
        (["poll", "t", "--where", "a=1", "--prefer", "b"], "prefer: together with where"),
        (["poll", "t", "--prefer", "a,b,c,d"], "prefer: name 1 to 3 labels, not 4"),
        (["poll", "t", "--prefer", "a,"], 'prefer: "" is not a name of a label'),
        (["poll", "t", "--order", "first"], "argument --order: invalid choice: 'first'"),
        (["commit", "1", "--hold", "30s"], "--hold: only with --nonce"),
        (["commit", "1", "--nonce", "n", "--hold", "25h"], "hold: must not be longer than 24h0m0s"),
        (["topics", "limit"], "the following arguments are required: TOPIC"),
        (["topics", "limit", "t", "--concurrency", "0"], "concurrency: Input should be greater than"),
        (
            ["topics", "limit", "t", "--rate", "100"],
            "--rate: '100' is not a count and a period; write them as 100/1m",
        ),
        (["topics", "limit", "t", "--rate", "100/"], "--rate: '100/' is not a count and a period"),
        (["topics", "limit", "t", "--rate", "100/day"], "--rate: period: "),
        (["topics", "limit", "t", "--rate", "5/1m", "--burst", "6"], "--rate: burst: 6 is not from 1 to 5"),
        (["topics", "limit", "t", "--burst", "6"], "--burst: it is of a rate; give --rate as well"),
        (
            ["topics", "limit", "t", "--per", "a", "--per-burst", "6"],
            "--per-burst: it is of a rate; give --per-rate",
        ),
        (["topics", "limit", "t", "--per-concurrency", "6"], "--per: name the label that"),
        (["topics", "limit", "t", "--ordered"], "--per: name the label that"),
        (["topics", "limit", "t", "--per", "a b"], 'label: "a b" is not a name of a label'),
        (["topics", "limit", "t", "--clear", "--concurrency", "5"], "--clear takes all limits away"),
        (["topics", "lanes", "t", "--limit", "0"], "--limit: at least 1"),
    ],
)
def test_wrong_arguments(ratus: Ratus, server: RatusServer, arguments: list[str], message: str) -> None:
    done = ratus(*arguments)
    assert (done.code, done.out) == (2, ""), done
    assert message in done.err


def test_a_poll_chooses(ratus: Ratus, client: Client) -> None:
    for number, customer in enumerate("aab"):
        client.insert_task(Task(id=str(number), topic="t", labels={"customer": customer}))
    assert ratus("poll", "t", "--where", "customer=b", "--where", "customer=c").lines[0]["_id"] == "2"
    assert ratus("poll", "t", "--where", "customer=b").code == 3
    client.insert_task(Task(id="3", topic="t", labels={"customer": "b"}))
    turns = ratus("poll", "t", "--prefer", "customer", "--order", "newest", "--limit", "3").lines
    assert [task["_id"] for task in turns] == ["1", "3", "0"]


def test_limits_are_set_shown_and_cleared(ratus: Ratus, client: Client) -> None:
    flags = ["--concurrency", "50", "--rate", "100/1m", "--burst", "10"]
    per = ["--per", "customer", "--per-concurrency", "2", "--per-rate", "10/1s", "--ordered"]
    done = ratus("topics", "limit", "t", *flags, *per, "--output", "table")
    assert done.out.splitlines() == [
        "t",
        "  concurrency     50",
        "  rate            100 in 1m0s, burst 10",
        "  per customer    in turns",
        "    concurrency   2",
        "    rate          10 in 1s",
        "    ordered       yes",
    ]
    assert client.get_topic("t").limits == Limits(
        concurrency=50,
        rate=Rate(count=100, period=MINUTE, burst=10),
        per=PerLabel(label="customer", concurrency=2, rate=Rate(count=10, period="1s"), ordered=True),
    )
    assert ratus("topics", "limit", "t").lines[0]["limits"]["concurrency"] == 50
    assert ratus("topics", "limit", "t", "--concurrency", "1").lines[0]["limits"] == {"concurrency": 1}
    assert "limits" not in ratus("topics", "limit", "t", "--clear").lines[0]
    done = ratus("topics", "limit", "t")
    assert (done.code, done.err) == (
        1,
        "ratus topics limit: not found: there is no topic 't', as it has neither tasks nor limits\n",
    )


def test_why_a_topic_is_closed_is_shown(ratus: Ratus, client: Client, server: RatusServer) -> None:
    client.insert_tasks(Task(id=str(number), topic="t") for number in range(3))
    client.set_limits("t", Limits(rate=Rate(count=1, period="1h")))
    assert client.poll("t") is not None
    assert ratus("poll", "t").code == 3
    reopens = (server.now + timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S")
    done = ratus("topics", "--output", "table")
    assert done.out.splitlines()[1].endswith(f"rate until {reopens} UTC")
    done = ratus("topics", "limit", "t", "--output", "table")
    assert done.out.splitlines()[-1] == f"  closed          rate until {reopens} UTC"
    client.patch_topic("t", paused=True, limits=Limits())
    assert ratus("topics", "--output", "table").out.splitlines()[1].endswith("paused")


def test_a_topic_may_be_called_as_a_part_of_the_command(ratus: Ratus, client: Client) -> None:
    client.insert_task(Task(id="1", topic="limit"))
    assert [topic["name"] for topic in ratus("topics", "--", "limit").lines] == ["limit"]


def test_lanes_are_listed(ratus: Ratus, client: Client) -> None:
    each: list[dict[str, str | int]] = [{}, {"customer": "a"}, {"customer": "a"}, {"customer": "b", "n": 7}]
    for number, labels in enumerate(each):
        client.insert_task(Task(id=str(number), topic="t", labels=labels))
    done = ratus("topics", "lanes", "t")
    assert done.code == 1
    assert "label: name one, as in ?label=customer" in done.err
    client.set_limits("t", Limits(per=PerLabel(label="customer", concurrency=1)))
    assert client.poll("t", where={"customer": "a"}) is not None
    done = ratus("topics", "lanes", "t", "--output", "table")
    assert [line.split() for line in done.out.splitlines()] == [
        ["VALUE", "PENDING", "ACTIVE", "CLOSED"],
        ["a", "1", "1", "concurrency"],
        ["b", "1", "0"],
        ["-", "1", "0"],
    ]
    assert ratus("topics", "lanes", "t", "--label", "n").lines == [
        {"value": "7", "active": 0, "pending": 1},
        {"active": 1, "pending": 2},
    ]
    done = ratus("topics", "lanes", "t", "--limit", "2")
    assert [json.loads(line).get("value") for line in done.out.splitlines()] == ["a", "b"]
    assert done.err == "ratus topics lanes: there are more than 2; --all shows all of them\n"


def test_a_commit_holds(ratus: Ratus, client: Client, server: RatusServer) -> None:
    client.insert_tasks(Task(id=str(number), topic="t") for number in range(2))
    delivery = client.poll("t")
    assert delivery is not None
    done = ratus("commit", delivery.id, "--nonce", delivery.nonce, "--state", "pending", "--hold", "30s")
    assert done.code == 0
    topic = client.get_topic("t")
    assert (topic.closed, topic.reopens) == ("hold", server.now + timedelta(seconds=30))
    assert ratus("poll", "t").code == 3
    assert "closed" not in ratus("topics", "limit", "t", "--lift-holds").lines[0]
    assert ratus("poll", "t").code == 0
