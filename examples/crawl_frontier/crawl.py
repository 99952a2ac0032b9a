"""One crawl from beginning to end: a site, a Ratus, a team of consumers, and evidence of what they did."""

from __future__ import annotations

import contextlib
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from examples.crawl_frontier import frontier
from examples.crawl_frontier import site as sites
from examples.crawl_frontier.ratus_server import ratus_server
from examples.crawl_frontier.survey import Survey, survey
from examples.crawl_frontier.team import Killed, Team
from ratus import Client, Conflict, Task, TaskState, Topic, TopicStates

# How often the supervisor looks at the frontier, and how often it prints what it found where a line cannot
# be rewritten. In seconds.
_LOOK_EVERY = 0.05
_SAY_EVERY = 1.0

# How long the crawl waits for its consumers to ask for pages before it begins with those that do. In seconds.
_START_TIMEOUT = 30.0


class CrawlError(Exception):
    """The crawl could not begin or did not come to an end; the message says why."""


@dataclass(frozen=True)
class Settings:
    """What to crawl and how. `ratus` is the URL of a running server, None for one of our own."""

    root: Path
    start_page: str = "/index.html"
    ratus: str | None = None
    consumers: int = 3
    asynchronous: bool = False
    kill_one: bool = False
    limit: int | None = None
    timeout: float = 300.0
    claim_timeout: float = 5.0


@dataclass(frozen=True)
class Evidence:
    """Everything that is known after a crawl, from four sources that know nothing of each other."""

    settings: Settings
    origin: str
    seconds: float
    # The files:
    survey: Survey
    # Ratus:
    states: TopicStates
    completed: list[Task]
    archived: list[Task]
    counters: dict[str, dict[str, int]]
    # The consumers:
    said: list[dict[str, str]]
    exit_codes: dict[str, int]
    killed: Killed | None
    # The site:
    visits: list[sites.Visit]


def crawl(settings: Settings) -> Evidence:
    """Run a crawl and print how it goes. Raises CrawlError, and RatusError when a server does not respond."""
    surveyed = survey(settings.root, settings.start_page)
    expected = min(len(surveyed.pages), settings.limit or len(surveyed.pages))
    with contextlib.ExitStack() as stack:
        # Two or three pauses in a crawl, however small it is.
        site = sites.Site(settings.root, settings.start_page, tired_after=max(20, expected * 2 // 5))
        origin = stack.enter_context(sites.serving(site))
        address = settings.ratus or stack.enter_context(ratus_server())
        topic = f"crawl-{urlsplit(origin).port}"
        _say(f"Site    {origin}{settings.start_page}: {len(surveyed.pages):,} pages in {settings.root}")
        _say(f"Ratus   {address}, topic {topic}")

        ratus = stack.enter_context(Client(address))
        # Unlike other calls this one is not repeated: whether there is a server should be known at once.
        ratus.get_readiness()
        _begin(ratus, topic, sites.url_of(origin, settings.start_page))
        arguments = ["--ratus", address, "--topic", topic, "--claim-timeout", f"{settings.claim_timeout}s"]
        if settings.asynchronous:
            arguments += ["--async"]
        if settings.limit:
            arguments += ["--limit", str(settings.limit)]
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="crawl-")))
        team = stack.enter_context(Team(folder, settings.consumers, arguments))
        _open_the_frontier(ratus, topic, team, settings.consumers)
        started = time.monotonic()
        killed = _watch(ratus, topic, team, settings, started, kill_at=expected // 3)
        seconds = time.monotonic() - started
        exit_codes = team.wait()
        if settings.ratus:
            _say(f"The tasks are still there. To delete them: curl -X DELETE {address}/v1/topics/{topic}")
        return Evidence(
            settings=settings,
            origin=origin,
            seconds=seconds,
            survey=surveyed,
            states=frontier.states(ratus.get_topic(topic)),
            completed=list(ratus.iter_tasks(topic, state=TaskState.COMPLETED)),
            archived=list(ratus.iter_tasks(topic, state=TaskState.ARCHIVED)),
            counters=frontier.counters(ratus.get_metrics(), topic),
            said=team.said(),
            exit_codes=exit_codes,
            killed=killed,
            visits=list(site.log),
        )


def _begin(ratus: Client, topic: str, start: str) -> None:
    """Queue the start page in a topic that is paused until the consumers are there.

    Ids are unique over all topics: what another crawl left behind is in the way.
    """
    ratus.patch_topic(topic, paused=True)
    try:
        ratus.insert_task(frontier.page(topic, start, depth=0))
    except Conflict:
        raise CrawlError(
            f"{start} is known to this Ratus already; delete the topic {topic}, or run this again"
        ) from None


def _open_the_frontier(ratus: Client, topic: str, team: Team, consumers: int) -> None:
    """Resume the topic once every consumer asks for pages, so that none comes too late for a small site."""
    give_up = time.monotonic() + _START_TIMEOUT
    while (
        frontier.waiting_polls(ratus.get_metrics()) < consumers
        and len(team.running()) == consumers
        and time.monotonic() < give_up
    ):
        time.sleep(_LOOK_EVERY)
    ratus.patch_topic(topic, paused=False)


def _watch(
    ratus: Client, topic: str, team: Team, settings: Settings, started: float, *, kill_at: int
) -> Killed | None:
    """Print how the crawl goes until it has ended; on the way, kill a consumer if that is wanted."""
    progress = _Progress(started)
    killed: Killed | None = None
    while True:
        now = ratus.get_topic(topic)
        known = frontier.states(now)
        ended = frontier.has_ended(known)
        progress.show(now, len(team.running()), last=ended)
        if ended:
            return killed
        if time.monotonic() - started > settings.timeout:
            raise CrawlError(f"not at the end after {settings.timeout:g} s: {_open(known)}")
        if not team.running():
            raise CrawlError(f"all consumers have ended too early: {_open(known)}")
        if settings.kill_one and killed is None and known.completed >= kill_at:
            killed = team.kill_one(ratus, topic)
            if killed:
                progress.interrupt(
                    f"          {killed.consumer} (pid {killed.pid}) is killed; it held {len(killed.held)} "
                    f"pages, which no other consumer gets for up to {settings.claim_timeout:g} s"
                )
        time.sleep(_LOOK_EVERY)


def _open(known: TopicStates) -> str:
    return f"{known.pending} pages are pending, {known.active} active"


class _Progress:
    """One line on a terminal, rewritten; a line a second anywhere else."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._rewrite = sys.stdout.isatty()
        self._said_at = 0.0
        self._crawled = 0
        self._rate_since = started
        self._rate = 0.0

    def show(self, topic: Topic, consumers: int, *, last: bool) -> None:
        """Print how the crawl stands, unless a line was printed a moment ago."""
        now, known = time.monotonic(), frontier.states(topic)
        if now - self._rate_since >= _SAY_EVERY:
            self._rate = (known.completed - self._crawled) / (now - self._rate_since)
            self._crawled, self._rate_since = known.completed, now
        if not (self._rewrite or last or now - self._said_at >= _SAY_EVERY):
            return
        self._said_at = now
        line = (
            f"{now - self._started:6.1f} s  crawled {known.completed:,}  queued {known.pending:,} "
            f"({known.pending - (topic.due or 0):,} of them for later)  active {known.active:,}  "
            f"failed {known.archived:,}  {self._rate:,.0f} pages/s  {consumers} consumers"
        )
        # Back to the start of the line, and clear what is left of the one before.
        print(
            f"\r{line}\x1b[K" if self._rewrite else line,
            end="" if self._rewrite and not last else "\n",
            flush=True,
        )

    def interrupt(self, line: str) -> None:
        """Print another line in between."""
        _say(f"\r\x1b[K{line}" if self._rewrite else line)


def _say(line: str) -> None:
    print(line, flush=True)
