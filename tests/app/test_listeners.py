"""Listeners: called in the worker with values that change."""

from __future__ import annotations

import logging
from queue import SimpleQueue
from typing import Any

import pytest

from ratus import App
from ratus.testing import RatusServer
from tests.app.support import PATIENCE

Calls = SimpleQueue[tuple[str, Any]]


@pytest.fixture(params=["threads", "loop"])
def kind(request: pytest.FixtureRequest) -> str:
    """A worker of threads only, and one of an event loop."""
    return str(request.param)


def define(app: App, kind: str) -> Calls:
    """An app that listens, and the calls of its listener."""
    calls: Calls = SimpleQueue()

    @app.task
    def nothing() -> None: ...

    if kind == "loop":

        @app.task
        async def coroutine() -> None: ...

    @app.listener("feature/*")
    def changed(name: str, value: Any) -> None:
        calls.put((name, value))
        if value == "broken":
            raise LookupError("in the listener")

    return calls


def test_a_listener_hears_what_there_is_and_what_changes(
    server: RatusServer, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    with App(server.url) as app, server.client() as client, caplog.at_level(logging.WARNING):
        calls = define(app, kind)
        client.set_value("feature/dark", {"on": True})
        client.set_value("other", 1)
        with app.worker():
            assert calls.get(timeout=PATIENCE) == ("feature/dark", {"on": True})
            client.set_value("feature/new", "broken")
            assert calls.get(timeout=PATIENCE) == ("feature/new", "broken")
            client.delete_value("feature/dark")
            assert calls.get(timeout=PATIENCE) == ("feature/dark", None)
            client.set_value("feature/new", None)
            assert calls.get(timeout=PATIENCE) == ("feature/new", None)
        client.set_value("feature/new", 7)
        assert calls.empty()
    assert "the listener of feature/* raised an exception" in caplog.text


def test_of_many_changes_the_last_is_always_heard_and_in_order(server: RatusServer) -> None:
    with App(server.url) as app, server.client() as client:
        calls = define(app, "threads")
        with app.worker():
            for number in range(200):
                client.set_value("feature/n", number)
            heard = [calls.get(timeout=PATIENCE)[1]]
            while heard[-1] != 199:
                heard.append(calls.get(timeout=PATIENCE)[1])
    assert heard == sorted(set(heard))


def test_one_name_is_only_that(server: RatusServer) -> None:
    with App(server.url) as app:
        client = app.client
        define(app, "threads")
        calls: Calls = SimpleQueue()
        app.listener("limit")(lambda name, value: calls.put((name, value)))
        with app.worker():
            client.set_value("limits", 1)
            client.set_value("limit", 2)
            assert calls.get(timeout=PATIENCE) == ("limit", 2)
        assert calls.empty()


@pytest.mark.parametrize("pattern", ["", "a*b", "**", "*/x"])
def test_patterns_that_are_none_are_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="is no pattern"):
        App().listener(pattern)


def test_a_coroutine_is_no_listener() -> None:
    async def changed(name: str, value: Any) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        App().listener("x")(changed)


def test_an_app_in_place_has_no_client() -> None:
    with pytest.raises(RuntimeError, match="has no server"):
        App(eager=True).client  # noqa: B018 - asking is the point
