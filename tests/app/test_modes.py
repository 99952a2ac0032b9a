"""One app on a server, on a server within the program, and in place: the same program, the same results."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from ratus import App, Client, JobFailed, NotFound, Retry, Unauthorized, current
from ratus.testing import RatusServer
from tests.app.support import PATIENCE
from tests.engines.mongodb.servers import fresh, shared_uri

ROOT = Path(__file__).parents[2]
DATABASE = "ratus_app_modes"
NOW = datetime(2026, 1, 31, tzinfo=UTC)


@dataclass
class Page:
    url: str
    at: datetime


def define(app: App) -> dict[str, Any]:
    """The functions of the program."""

    @app.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    @app.task(name="fetch")
    async def fetch(page: Page) -> Page:
        await asyncio.sleep(0)
        assert isinstance(page, Page), "it has made the trip through JSON"
        return Page(page.url + "/", page.at)

    @app.task(name="third", retry=Retry(max_attempts=3, delay="0s"))
    def third() -> int:
        if current().attempts < 3:
            raise ConnectionError("not yet")
        return current().attempts

    @app.task(name="broken", retry=Retry(max_attempts=2, delay="0s"))
    def broken() -> None:
        raise LookupError("for good")

    @app.task(name="nested")
    def nested(n: int) -> str:
        return double.options(id=f"nested-{n}").push(n).id

    return {"double": double, "fetch": fetch, "third": third, "broken": broken, "nested": nested}


def use(app: App, working: Callable[[], Any]) -> None:
    """What the program does, and what has to come of it."""
    functions = define(app)
    called: list[str] = []
    with working():
        assert functions["double"].push(4).result(PATIENCE) == 8
        page = Page("https://example.com", NOW)
        assert functions["fetch"].push(page).result(PATIENCE) == Page("https://example.com/", NOW)
        assert functions["third"].push().result(PATIENCE) == 3
        with pytest.raises(JobFailed, match="for good") as caught:
            functions["broken"].push().result(PATIENCE)
        assert "LookupError" in caught.value.traceback
        assert caught.value.task.attempts == 2
        inner = app.job(functions["nested"].push(7).result(PATIENCE))
        assert inner.result(PATIENCE) == 14
        assert inner.status == "completed"
        assert functions["double"].options(id="nested-7").push(1).result(PATIENCE) == 14
        many = functions["double"].push_many((n,) for n in range(50))
        assert [job.result(PATIENCE) for job in many] == [2 * n for n in range(50)]
        with pytest.raises(TypeError, match="argument n"):
            functions["double"].push("four")

        async def main() -> None:
            job = await functions["double"].apush(5)
            assert await job == 10
            assert await job.astatus() == "completed"
            assert not await job.acancel()
            assert await (await functions["fetch"].apush(page)) == Page("https://example.com/", NOW)
            assert await (await functions["third"].apush()) == 3

        asyncio.run(main())
        many[0].add_done_callback(lambda job: called.append(job.id))
        with pytest.raises(NotFound):
            app.job("missing").result(PATIENCE)
    app.close()
    assert called == [many[0].id]


def flags_of(name: str, folder: Path) -> list[str]:
    """The flags of a server on this engine."""
    if name == "memdb":
        return []
    if name == "sqlite":
        return ["--engine", "sqlite", "--sqlite-path", str(folder / "tasks.db")]
    if (uri := shared_uri()) is None:
        pytest.skip("no mongod on this machine")
    fresh(DATABASE)
    return ["--engine", "mongodb", "--mongodb-uri", uri, "--mongodb-database", DATABASE]


@pytest.mark.parametrize("name", ["memdb", "sqlite", "mongodb"])
def test_on_a_server(name: str, tmp_path: Path) -> None:
    with RatusServer(*flags_of(name, tmp_path), real_clock=True) as server:
        app = App(server.url)
        use(app, app.worker)


@pytest.mark.parametrize("url", ["memory:", "sqlite:{}"])
def test_on_a_server_within_the_program(url: str, tmp_path: Path) -> None:
    app = App(url.format(tmp_path / "tasks.db"))
    use(app, app.worker)


def test_in_place() -> None:
    app = App(eager=True)
    use(app, ExitStack)
    with pytest.raises(RuntimeError, match="in place"):
        app.run_worker()


def test_in_place_within_an_event_loop() -> None:
    with App(eager=True) as app:
        functions = define(app)

        async def main() -> None:
            page = Page("u", NOW)
            assert functions["fetch"].push(page).result() == Page("u/", NOW)

        asyncio.run(main())


def test_in_place_the_lifespan_is_around_all_pushes() -> None:
    events: list[str] = []
    with App(eager=True) as app:

        @app.lifespan
        def database() -> Iterator[None]:
            events.append("open")
            yield
            events.append("close")

        @app.task
        def use_it() -> None:
            events.append("use")

        use_it.push()
        use_it.push()
    assert events == ["open", "use", "use", "close"]


def test_the_server_within_the_program_is_for_it_alone(tmp_path: Path) -> None:
    with App("memory:") as app:
        job = define(app)["double"].push(1)
        url = app._connection.client().url  # type: ignore[attr-defined]
        with Client(url) as stranger, pytest.raises(Unauthorized):
            stranger.get_task(job.id)


def test_tasks_in_a_file_are_there_after_a_restart(tmp_path: Path) -> None:
    with App(f"sqlite:{tmp_path / 'tasks.db'}") as app:
        waiting = define(app)["double"].push(4).id
        with app.worker():
            done = app.functions["double"].push(5)
            assert done.result(PATIENCE) == 10
    with App(f"sqlite:{tmp_path / 'tasks.db'}") as again:
        define(again)
        assert again.job(done.id).result() == 10
        with again.worker():
            assert again.job(waiting).result(PATIENCE) == 8


@pytest.mark.parametrize(
    ("url", "message"), [("memory:x", "says too much"), ("sqlite:", "names no file"), ("memory", "the URL")]
)
def test_wrong_addresses_are_refused(url: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        App(url)


PROGRAM = """
import sys
from ratus import App
app = App(sys.argv[1])

@app.task
def double(n: int) -> int:
    return 2 * n

with app.worker():
    print(double.push(4).result("60s"))
double.options(id="left").push(5)
"""


def test_a_program_that_ends_stops_its_server_in_order(tmp_path: Path) -> None:
    for url in ("memory:", f"sqlite:{tmp_path / 'tasks.db'}"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", PROGRAM, url],
            capture_output=True,
            text=True,
            timeout=2 * PATIENCE,
            check=False,
            cwd=ROOT,
            env={"PYTHONPATH": f"{ROOT}:{ROOT / 'engines'}"},
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "8\n", "")
    assert not (tmp_path / "tasks.db-wal").exists(), "the database was closed"
    with App(f"sqlite:{tmp_path / 'tasks.db'}") as app:
        assert app.job("left").status == "pending"
