"""Not run: what a user writes, for the type checker. Each `assert_type` fails when a type is lost."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, assert_type

from ratus import App, Execution, Job, Priority, Retry, current

app = App("http://127.0.0.1:8000")


@dataclass
class Page:
    """A result."""

    url: str


@app.task
def bare(image: int, width: int = 640) -> str:
    """A plain function."""
    return f"{image}-{width}"


@app.task(topic="images", retry=Retry(max_attempts=5), priority=Priority.HIGH, ttl="1h", timeout="2m")
def resize(image: int, *, width: int = 640) -> str:
    """The same, with arguments for the decorator."""
    assert_type(current(), Execution)
    return f"{image}-{width}"


@app.task
async def fetch(url: str) -> Page:
    """A coroutine function."""
    return Page(url)


@app.task(name="crawl", retry_on=(OSError,), give_up_on=ValueError)
async def crawl(url: str) -> list[Page]:
    """The same, with arguments for the decorator."""
    return [await fetch(url)]


@app.middleware
def timed(execution: Execution) -> Iterator[None]:
    """Around a call."""
    yield


@app.lifespan
async def connections() -> AsyncIterator[None]:
    """Around the work."""
    yield


async def use() -> None:
    """Calls, pushes and results keep their types."""
    assert_type(bare(7), str)
    assert_type(bare.push(7, width=320), Job[str])
    assert_type(bare.push(7).result("1m"), str)
    assert_type(resize.options(defer="1h", id="resize-7").push(7, width=320).result(), str)
    assert_type(await resize.apush(7), Job[str])
    assert_type(await (await resize.apush(7)), str)
    assert_type(await fetch("u"), Page)
    assert_type(fetch.push("u"), Job[Page])
    assert_type(fetch.push("u").result(), Page)
    assert_type(await crawl.push("u"), list[Page])
    assert_type(resize.push_many([(1,), {"image": 2}]), list[Job[str]])
    assert_type(app.job("1"), Job[Any])
    bare.push("seven")  # type: ignore[arg-type]
    bare.push(height=7)  # type: ignore[call-arg]
    resize.options(id="a").push()  # type: ignore[call-arg]
    fetch.push(7)  # type: ignore[arg-type]
    fetch.push("u").add_done_callback(lambda job: assert_type(job.result(), Page))
