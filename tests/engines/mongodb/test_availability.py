"""Starting without a database, losing it, and what is said about it."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import AsyncIterator
from functools import partial

import pytest
from ratus_engines.mongodb.deployment import Deployment
from ratus_engines.mongodb.engine import MongodbEngine

from ratus.core.errors import ServiceUnavailable
from ratus.engine.testkit.contract.life import CALLS
from ratus.engine.testkit.harness import Harness
from ratus.testing import START
from tests.absent import absent
from tests.engines.mongodb import servers
from tests.servers import free_port

pytestmark = pytest.mark.anyio

# What the contract allows, and what a busy machine may add to the driver's own limit.
LONGEST = 10.0


@pytest.fixture
async def server() -> AsyncIterator[servers.Mongod]:
    """A server of its own, to be killed and stopped."""
    if servers.mongod() is None:
        absent(servers.ABSENT)
    made = servers.Mongod()
    made.wait()
    yield made
    made.remove()


async def until_ready(engine: MongodbEngine) -> None:
    async with asyncio.timeout(30):
        while not (await engine.health()).ready:
            await asyncio.sleep(0.05)


async def test_starting_does_not_need_the_database() -> None:
    port = free_port()
    engine = MongodbEngine(f"mongodb://127.0.0.1:{port}", database="ratus_late")
    started = time.monotonic()
    await engine.open(START)
    health = await engine.health()
    assert time.monotonic() - started < LONGEST / 2
    assert health.ready is False
    assert health.detail

    async def refused(name: str) -> float:
        with pytest.raises(ServiceUnavailable) as caught:
            await CALLS[name](engine)
        assert caught.value.detail
        return time.monotonic() - started

    started = time.monotonic()
    assert max(await asyncio.gather(*map(refused, CALLS))) <= 2 * LONGEST  # a busy machine may be late
    if servers.mongod() is None:
        absent(servers.ABSENT)
    server = servers.Mongod(port=port)
    try:
        await until_ready(engine)
        await Harness(lambda **_: engine).start()
        assert await engine.get("1") is None
    finally:
        await engine.close(START)
        server.remove()


async def test_a_database_that_hangs(server: servers.Mongod) -> None:
    """Nothing is closed, nothing is answered: the worst kind of outage."""
    engine = MongodbEngine(f"mongodb://{server.address}/?timeoutMS=2000")
    patient = MongodbEngine(f"mongodb://{server.address}/?timeoutMS=600000")
    harness = Harness(lambda **_: engine)
    harness.engine = await harness.start()
    await harness.add("1")
    assert (await engine.health()).ready is True
    await patient.open(START)
    await until_ready(patient)
    server.send(signal.SIGSTOP)
    try:
        for _ in range(2):
            # Within a second, where the machine is not busy, and not when the operation's time is over.
            health = await asyncio.wait_for(patient.health(), 60)
            assert health.ready is False
            assert health.detail == "MongoDB does not answer in time"  # it was reached, long ago
        with pytest.raises(ServiceUnavailable):
            await asyncio.wait_for(harness.claim(), 60)
    finally:
        server.send(signal.SIGCONT)
    await until_ready(engine)
    assert (await harness.claim_one()).id == "1"
    await patient.close(START)
    await harness.end()


async def test_what_is_said_while_the_collection_is_prepared(
    server: servers.Mongod, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def prepare(deployment: Deployment) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(Deployment, "_prepare", prepare)
    engine = MongodbEngine(f"mongodb://{server.address}", database="ratus_preparing")
    await engine.open(START)
    health = await engine.health()
    assert (health.ready, health.detail) == (False, "MongoDB is not ready: its collection is being prepared")
    await engine.close(START)


async def test_a_database_that_comes_back(server: servers.Mongod) -> None:
    harness = Harness(partial(MongodbEngine, f"mongodb://{server.address}/?timeoutMS=3000"))
    harness.engine = await harness.start()
    await harness.add("1", "2")
    claimed = await harness.claim_one()
    server.kill()
    assert (await harness.engine.health()).ready is False
    with pytest.raises(ServiceUnavailable):
        await harness.commit("1", claimed.nonce)
    server.start()
    assert isinstance(harness.engine, MongodbEngine)
    await until_ready(harness.engine)
    assert (await harness.get("1")).nonce == claimed.nonce
    await harness.commit("1", claimed.nonce)
    assert (await harness.claim_one()).id == "2"
    await harness.end()


async def test_a_server_without_a_journal(caplog: pytest.LogCaptureFixture) -> None:
    if servers.mongod() is None:
        absent(servers.ABSENT)
    server = servers.Mongod("--nojournal")
    try:
        harness = Harness(partial(MongodbEngine, f"mongodb://{server.address}"))
        harness.engine = await harness.start()
        await harness.add("1")
        assert (await harness.claim_one()).id == "1"
        assert "no journal" in caplog.text
        await harness.end()
    finally:
        server.remove()


# ---- secrets -----------------------------------------------------------------------------------------------


async def test_the_password_is_in_no_log_and_no_answer(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    uri = f"mongodb://operator:hush%21hush@127.0.0.1:{free_port()}/?timeoutMS=500"
    engine = MongodbEngine(uri)
    await engine.open(START)
    health = await engine.health()
    with pytest.raises(ServiceUnavailable) as caught:
        await engine.get("1")
    await engine.close(START)
    assert "hush" not in caplog.text + health.detail + caught.value.detail + repr(caught.value.__cause__)


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "postgres://operator:hushhush@host/",
        "mongodb://operator:hush@hush@host/",
        "mongodb://operator:hush:hush@host/",
        "mongodb://operator:hush/hush@host",
        "mongodb://operator:hushhush@host:port",
        "mongodb://operator:hushhush@",
    ],
)
def test_a_uri_that_cannot_be_used_is_refused_without_showing_it(
    uri: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="MongoDB URI") as caught:
        MongodbEngine(uri)
    assert "hush" not in str(caught.value)
    assert "hush" not in caplog.text


def test_options_that_the_driver_does_not_know_are_told(caplog: pytest.LogCaptureFixture) -> None:
    MongodbEngine("mongodb://operator:hushhush@host/?wtimeoutMS=abc&nonsense=1&hushhush=2")
    assert "wtimeoutms" in caplog.text
    assert "nonsense" in caplog.text
    assert "hush" not in caplog.text


def test_each_option_is_told_once_and_by_its_name(caplog: pytest.LogCaptureFixture) -> None:
    MongodbEngine("mongodb://host/?foo=1&fooo=2&compressors=none,nothing")
    texts = [record.getMessage() for record in caplog.records if "URI" in record.getMessage()]
    assert len([text for text in texts if " foo: " in text]) == 1
    assert len([text for text in texts if " fooo: " in text]) == 1


@pytest.mark.parametrize("name", ["/nowhere.pem", __file__])
def test_a_certificate_that_cannot_be_read_is_told(name: str) -> None:
    with pytest.raises(ValueError, match="the MongoDB URI cannot be used"):
        MongodbEngine(f"mongodb://host/?tls=true&tlsCAFile={name}")


# ---- options of the URI ------------------------------------------------------------------------------------


async def test_what_the_uri_does_not_say() -> None:
    client = MongodbEngine("mongodb://host")._deployment.client
    assert client.write_concern.document == {"w": "majority", "j": True}
    assert client.read_concern.level == "majority"
    assert client.options.retry_writes is True
    assert client.options.retry_reads is True
    assert client.options.pool_options.appname == "ratus"


async def test_what_the_uri_says_is_kept() -> None:
    uri = (
        "mongodb://host/?w=1&readConcernLevel=local&retryWrites=false&retryReads=false&appName=mine"
        "&serverSelectionTimeoutMS=1234&timeoutMS=4000"
    )
    deployment = MongodbEngine(uri)._deployment
    client = deployment.client
    assert client.write_concern.document == {"w": 1}
    assert client.read_concern.level == "local"
    assert client.options.retry_writes is False
    assert client.options.retry_reads is False
    assert client.options.pool_options.appname == "mine"
    assert client.options.server_selection_timeout == 1.234
    assert deployment.limit == 4.0


# ---- being cancelled ---------------------------------------------------------------------------------------


async def test_a_cancellation_that_the_driver_swallows_is_noticed(harness: Harness) -> None:
    """It comes together with the answer: the caller would never know, and a loop of chores never end."""
    engine = harness.engine
    assert isinstance(engine, MongodbEngine)
    asked = asyncio.Event()

    async def operation() -> None:
        with engine._deployment.limited():
            asked.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                pass  # as asyncio.wait_for does

    task = asyncio.create_task(operation())
    await asked.wait()
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
