"""Values from both clients: set on a condition, listed, and watched over a restart of the server."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from ratus import AsyncClient, Client, Conflict, NotFound, Value
from ratus.testing import RatusServer
from tests.servers import launch, ready, serving


def test_a_value_is_set_read_listed_and_deleted(ratus: Any) -> None:
    with pytest.raises(NotFound):
        ratus.get_value("a/b")
    first = ratus.set_value("a/b", {"x": [1, None]}, if_revision=0)
    assert (first.name, first.value) == ("a/b", {"x": [1, None]})
    assert ratus.get_value("a/b") == first
    with pytest.raises(Conflict, match="read it again"):
        ratus.set_value("a/b", 1, if_revision=first.revision - 1)
    second = ratus.set_value("a/b", None, if_revision=first.revision)
    assert ratus.get_value("a/b").value is None
    ratus.set_value("a/c", 1)
    assert [value.name for value in ratus.list_values("a/")] == ["a/b", "a/c"]
    page = ratus.list_values("a/", limit=1)
    assert [value.name for value in ratus.list_values("a/", limit=1, after=page.next)] == ["a/c"]
    with pytest.raises(Conflict):
        ratus.delete_value("a/b", if_revision=first.revision)
    assert ratus.delete_value("a/b", if_revision=second.revision) == 1
    assert ratus.delete_value("a/b") == 0


@pytest.mark.parametrize("name", ["ö?&#%", ".", "..", "a b+c", "//", "\u202e\0", "x" * 900])
def test_any_name_is_one_of_a_value(ratus: Any, name: str) -> None:
    assert ratus.set_value(name, 1).name == name
    assert ratus.get_value(name).value == 1
    assert ratus.delete_value(name) == 1


def test_slips_are_refused_before_anything_is_sent() -> None:
    client = Client("http://127.0.0.1:1")
    with pytest.raises(ValueError, match="must not be empty"):
        client.get_value("")
    with pytest.raises(ValueError, match="name the values to watch, or give a prefix"):
        next(client.watch_values())
    with pytest.raises(ValueError, match="name the values to watch, or give a prefix"):
        next(client.watch_values("a", prefix="a"))
    with pytest.raises(ValueError, match="names: "):
        next(client.watch_values([]))


def test_all_values_are_iterated_over_pages() -> None:
    with RatusServer() as server, server.client() as client:
        names = [f"n{number:03}" for number in range(25)]
        for name in names:
            client.set_value(name, name)
        client.set_value("m", 1)
        assert [value.name for value in client.iter_values("n", page_size=10)] == names
        assert len(list(client.iter_values())) == 26


def test_what_is_watched_is_given_as_it_is_and_then_each_change() -> None:
    with RatusServer(real_clock=True) as server, server.client() as client, server.client() as other:
        client.set_value("a", 1)
        client.set_value("b", 1)
        named, prefixed = client.watch_values(["a", "c"]), client.watch_values(prefix="")
        assert (next(named).value, [next(prefixed).name, next(prefixed).name]) == (1, ["a", "b"])
        timer = threading.Timer(0.01, lambda: (other.set_value("b", 2), other.set_value("c", 3)))
        timer.start()
        assert (next(named).name, next(prefixed).name) == ("c", "b")
        timer.join()
        client.delete_value("a")
        assert next(named).deleted
        last = client.get_value("c")
        assert next(client.watch_values(prefix="", since=last.revision - 1)) == last


def test_a_coroutine_watches_values() -> None:
    async def run(url: str) -> None:
        async with AsyncClient(url) as client:
            await client.set_value("a", 1)
            seen: list[Value] = []
            async for value in client.watch_values("a"):
                seen.append(value)
                if len(seen) == 2:
                    break
                await client.set_value("a", 2)
            assert [value.value for value in seen] == [1, 2]
            assert [value.name async for value in client.iter_values()] == ["a"]

    with RatusServer() as server:
        asyncio.run(run(server.url))


def test_a_watcher_goes_on_after_the_server_was_away(tmp_path: Path) -> None:
    flags = ("--engine", "sqlite", "--sqlite-path", str(tmp_path / "ratus.db"))
    with serving(tmp_path, *flags) as server, Client(f"http://127.0.0.1:{server.port}") as client:
        client.set_value("a", 1)
        watched = client.watch_values("a")
        assert next(watched).value == 1
        server.process.kill()
        server.wait()
        found: list[Value] = []
        watching = threading.Thread(target=lambda: found.append(next(watched)))
        watching.start()
        again = launch(tmp_path, *flags, port=server.port)
        while not ready(again):
            assert again.process.poll() is None, again.log
        with Client(f"http://127.0.0.1:{server.port}") as other:
            other.set_value("a", 2)
        watching.join(120)
        assert found[0].value == 2
        assert again.stop() == 0
