"""The crawler of examples/crawl_frontier: small crawls by real processes, and its parts."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest

from examples.crawl_frontier import frontier, sample_site
from examples.crawl_frontier.crawl import Evidence, Settings
from examples.crawl_frontier.links import LONGEST_URL, read_page
from examples.crawl_frontier.report import as_text, judge
from examples.crawl_frontier.site import BROKEN_PAGE, Site, Visit, find_file, is_unreliable, serving, url_of
from examples.crawl_frontier.survey import Survey, SurveyedPage, survey
from examples.crawl_frontier.team import Killed
from examples.crawl_frontier.visits import Diary, Politeness, Unavailable, conclude, give_back
from ratus import Client, Delivery, Task, TaskState, TopicStates
from ratus.testing import RatusServer
from tests import servers

ROOT = Path(__file__).parents[2]
START = sample_site.START_PAGE


def run_crawl(folder: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """Run the example from the command line; its report as data, and what it printed."""
    report = folder / "report.json"
    command = [sys.executable, "-m", "examples.crawl_frontier", "--json", str(report), *flags]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(report.read_text()), done.stdout


def documentation(folder: Path) -> Path:
    """The real documentation site; at home, a made-up one where that is not installed."""
    installed = sorted(Path("/usr/share/doc").glob("postgresql-doc-*/html"))
    if installed:
        return installed[-1]
    if os.environ.get("CI"):
        pytest.fail("the crawl needs the pages of the Debian package postgresql-doc")
    sample_site.write_sample_site(folder, pages=300)
    return folder


# --- crawls -------------------------------------------------------------------------------------------------


VARIANTS = pytest.mark.parametrize("variant", [[], ["--async"]], ids=["threads", "asyncio"])


@VARIANTS
def test_a_crawl_survives_the_death_of_a_consumer(tmp_path: Path, variant: list[str]) -> None:
    site = documentation(tmp_path / "site")

    report, printed = run_crawl(
        tmp_path, "--site", str(site), "--limit", "200", "--kill-one", "--claim-timeout", "4", *variant
    )

    assert report["passed"] is True
    assert all(check["passed"] for check in report["checks"])
    assert len(report["checks"]) == 11
    figures = report["figures"]
    assert figures["crawled"] >= 195
    assert figures["dead_letters"] == 1
    assert len(figures["killed"]["held"]) >= 1
    # Each of these would pass the checks without having happened. The limit leaves to chance which pages are
    # crawled, but those that the start page links to come first.
    unreliable = [
        path for path, page in survey(site, START).pages.items() if page.depth <= 1 and is_unreliable(path)
    ]
    assert len(unreliable) >= 2
    assert figures["crawled_after_a_failure"] >= len(unreliable)
    assert figures["answers_of_the_site"]["503"] >= 2 * len(unreliable)
    assert figures["answers_of_the_site"]["429"] > 0
    assert figures["verdicts"]["given back"] > 0
    assert figures["depths"]["1"]["median_second"] < figures["depths"]["2"]["median_second"]
    assert sum(consumer["consumed"] > 0 for consumer in figures["counters"].values()) == 3
    # It says what it is doing while it runs.
    assert "is killed; it held" in printed
    assert printed.count(" crawled ") >= 3


@VARIANTS
def test_a_whole_site_on_a_server_that_is_running(tmp_path: Path, variant: list[str]) -> None:
    site = tmp_path / "site"
    sample_site.write_sample_site(site, pages=30)

    with servers.serving(tmp_path) as server:
        address = f"http://127.0.0.1:{server.port}"
        report, printed = run_crawl(
            tmp_path, "--site", str(site), "--consumers", "2", "--ratus", address, *variant
        )

        with Client(address) as ratus:
            [topic] = ratus.list_topics()
            [letter] = ratus.iter_tasks(topic.name, state=TaskState.ARCHIVED, outcome="failed")

    assert report["passed"] is True
    assert report["figures"]["crawled"] == 30
    assert report["figures"]["not_found"] == 1
    assert letter.id.endswith(BROKEN_PAGE)
    assert letter.attempts == 5
    assert f"curl -X DELETE {address}/v1/topics/{topic.name}" in printed


def test_a_server_that_is_not_there_is_one_clear_line(tmp_path: Path) -> None:
    sample_site.write_sample_site(tmp_path, pages=3)
    nowhere = f"http://127.0.0.1:{servers.free_port()}"
    command = [sys.executable, "-m", "examples.crawl_frontier", "--site", str(tmp_path), "--ratus", nowhere]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "refused" in done.stderr


@pytest.mark.parametrize(
    ("flags", "complaint"),
    [
        (["--consumers", "1", "--kill-one"], "at least two consumers"),
        (["--consumers", "0"], "at least 1"),
        (["--timeout", "nan"], "between"),
        (["--site", "examples"], "holds no index.html"),
    ],
)
def test_wrong_usage_is_told(flags: list[str], complaint: str) -> None:
    command = [sys.executable, "-m", "examples.crawl_frontier", *flags]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2
    assert complaint in done.stderr


# --- the report can fail ------------------------------------------------------------------------------------

ORIGIN = "http://127.0.0.1:1"


def task(path: str, links: list[str], consumer: str, attempts: int = 1) -> Task:
    when = datetime(2026, 1, 31, 12, tzinfo=UTC)
    return Task(
        id=ORIGIN + path,
        consumer=consumer,
        produced=when,
        committed=when,
        attempts=attempts,
        payload={"depth": 0 if path == START else 1},
        result={"status": 200, "title": path, "links": [ORIGIN + link for link in links]},
    )


def good_evidence() -> Evidence:
    """A crawl of two pages by two consumers, one of which was killed while it had the second page."""
    return Evidence(
        settings=Settings(root=Path(), kill_one=True),
        origin=ORIGIN,
        seconds=1.0,
        survey=Survey(
            {
                START: SurveyedPage(0, START, frozenset({"/a.html"})),
                "/a.html": SurveyedPage(1, "/a.html", frozenset()),
            },
            frozenset({"/gone.html"}),
        ),
        states=TopicStates(completed=2, archived=2),
        completed=[task(START, ["/a.html", BROKEN_PAGE], "one"), task("/a.html", [], "one", attempts=2)],
        archived=[
            Task(id=ORIGIN + "/gone.html", error="404 Not Found", attempts=1),
            Task(
                id=ORIGIN + BROKEN_PAGE,
                error="visits.Unavailable: 500 Internal Server Error\n\nTraceback ...",
                attempts=5,
                outcome="failed",
            ),
        ],
        counters={"one": {"consumed": 3, "committed": 3}, "two": {"consumed": 1}},
        said=[
            {"consumer": "one", "url": ORIGIN + START, "verdict": "completed"},
            {"consumer": "one", "url": ORIGIN + "/a.html", "verdict": "completed"},
            {"consumer": "one", "url": ORIGIN + "/gone.html", "verdict": "rejected"},
        ],
        exit_codes={"one": 0, "two": -9},
        killed=Killed("two", 1, [ORIGIN + "/a.html"]),
        visits=[Visit("one", START, 200), Visit("two", "/a.html", 200), Visit("one", "/a.html", 200)],
    )


def with_first_page(evidence: Evidence, **members: Any) -> Evidence:
    first, *others = evidence.completed
    return replace(evidence, completed=[first.model_copy(update=members), *others])


TAMPERED: dict[str, Callable[[Evidence], Evidence]] = {
    "nothing is left open": lambda e: replace(e, states=TopicStates(completed=2, archived=2, active=1)),
    "no page is lost": lambda e: replace(
        e, survey=Survey(e.survey.pages | {"/b.html": SurveyedPage(1, "", frozenset())}, e.survey.missing)
    ),
    "nothing else is crawled": lambda e: replace(e, completed=[*e.completed, task("/b.html", [], "one")]),
    "every page is read right": lambda e: with_first_page(
        e, result={"status": 200, "title": START, "links": []}
    ),
    "dead links are reported": lambda e: replace(e, archived=e.archived[1:]),
    "the broken page is a dead letter": lambda e: replace(e, archived=e.archived[:1]),
    "no page is committed twice": lambda e: replace(e, said=[*e.said, e.said[0]]),
    "no page is fetched twice without a reason": lambda e: replace(e, visits=[*e.visits, e.visits[0]]),
    "the metrics of the server count the same": lambda e: replace(
        e, counters=e.counters | {"one": {"consumed": 4, "committed": 3}}
    ),
    "the other consumers ended by themselves": lambda e: replace(e, exit_codes={"one": 1, "two": -9}),
    "the pages of the killed consumer are crawled": lambda e: replace(
        e, killed=Killed("two", 1, [ORIGIN + START])
    ),
}


def test_good_evidence_passes_every_check() -> None:
    report = judge(good_evidence())

    assert report.passed, as_text(report)
    assert {check.name for check in report.checks} == TAMPERED.keys()
    assert "FAILED" not in as_text(report)


@pytest.mark.parametrize("name", TAMPERED)
def test_each_check_fails_when_it_should(name: str) -> None:
    report = judge(TAMPERED[name](good_evidence()))

    assert not report.passed
    assert name in {check.name for check in report.checks if not check.passed}
    assert f"FAILED  {name}" in as_text(report)


@pytest.mark.parametrize(("committed", "passes"), [(2, False), (3, True), (4, True), (5, False)])
def test_a_consumer_with_late_claims_may_have_lost_some_that_it_never_began(
    committed: int, passes: bool
) -> None:
    evidence = good_evidence()
    late = {"consumer": "one", "url": ORIGIN + "/a.html", "verdict": "late"}
    counters = evidence.counters | {"one": {"consumed": 5, "committed": committed}}

    report = judge(replace(evidence, said=[*evidence.said, late], counters=counters))

    [check] = [check for check in report.checks if check.name == "the metrics of the server count the same"]
    assert check.passed is passes


def test_a_kill_that_did_not_happen_fails() -> None:
    evidence = dataclasses.replace(good_evidence(), killed=None)

    assert "the crawl was over before" in as_text(judge(evidence))


# --- visits -------------------------------------------------------------------------------------------------


@pytest.fixture
def ratus(ratus_server: RatusServer) -> Iterator[Client]:
    """A client of a frontier with one page."""
    with ratus_server.client() as client:
        client.insert_task(frontier.page("crawl", ORIGIN + START, depth=3))
        yield client


@pytest.fixture
def ratus_server() -> Iterator[RatusServer]:
    """A server whose clock stands still."""
    with RatusServer() as server:
        yield server


def claim(ratus: Client) -> Delivery:
    delivery = ratus.poll("crawl", timeout="5s")
    assert delivery is not None
    return delivery


def test_a_page_is_committed_with_what_was_found(ratus: Client) -> None:
    answer = httpx.Response(200, html='<title>T</title><a href="a.html">a</a>')

    with claim(ratus) as delivery:
        visit = conclude(delivery, answer, Politeness())

    [link] = visit.links
    assert (link.id, link.topic, link.priority) == (f"{ORIGIN}/a.html", "crawl", 9 - 4)
    assert link.payload == {"depth": 4, "found_on": ORIGIN + START}
    page = ratus.get_task(ORIGIN + START)
    assert page.state is TaskState.COMPLETED
    assert page.result == {"status": 200, "title": "T", "links": [f"{ORIGIN}/a.html"]}


def test_what_is_no_page_has_no_links(ratus: Client) -> None:
    answer = httpx.Response(200, text="<title>T</title><a href='a.html'>a</a>")

    with claim(ratus) as delivery:
        assert conclude(delivery, answer, Politeness()).links == []


def test_a_page_that_is_not_there_is_archived_at_once(ratus: Client) -> None:
    with claim(ratus) as delivery:
        assert conclude(delivery, httpx.Response(404), Politeness()).verdict == "rejected"

    page = ratus.get_task(ORIGIN + START)
    assert (page.state, page.error, page.outcome) == (TaskState.ARCHIVED, "404 Not Found", None)


def test_an_error_of_the_site_is_a_failure_that_is_tried_again(ratus: Client) -> None:
    with pytest.raises(Unavailable, match="503 Service Unavailable"), claim(ratus) as delivery:
        conclude(delivery, httpx.Response(503), Politeness())

    page = ratus.get_task(ORIGIN + START)
    assert (page.state, page.attempts) == (TaskState.PENDING, 1)
    assert page.error.splitlines()[0].endswith("Unavailable: 503 Service Unavailable")


@pytest.mark.parametrize(
    ("headers", "asked"),
    [({"Retry-After": "7"}, 7), ({}, 1), ({"Retry-After": "Sat, 31 Jan 2026 12:00:00 GMT"}, 1)],
)
def test_a_host_that_asks_for_it_is_left_alone(
    ratus: Client, ratus_server: RatusServer, headers: dict[str, str], asked: int
) -> None:
    politeness = Politeness()
    assert politeness.pause(ORIGIN + START) == 0

    with claim(ratus) as delivery:
        assert conclude(delivery, httpx.Response(429, headers=headers), politeness).verdict == "given back"

    assert asked - 1 < politeness.pause(f"{ORIGIN}/other.html") <= asked
    assert politeness.pause("http://elsewhere/") == 0
    # No failure, and nobody gets it before the pause is over.
    page = ratus.get_task(ORIGIN + START)
    assert (page.state, page.attempts, page.error) == (TaskState.PENDING, 0, "")
    assert ratus.poll("crawl") is None
    ratus_server.advance(f"{asked}s")
    assert ratus.poll("crawl") is not None


def test_the_diary_tells_of_what_is_committed(ratus: Client, capsys: pytest.CaptureFixture[str]) -> None:
    ratus.insert_task(frontier.page("crawl", f"{ORIGIN}/late.html", depth=4))
    diary = Diary("me")
    first, second = claim(ratus), claim(ratus)

    diary.add(first, "completed")
    assert capsys.readouterr().out == ""
    first.commit()
    diary.add(second, "failed")
    assert json.loads(capsys.readouterr().out) == {
        "consumer": "me",
        "url": ORIGIN + START,
        "verdict": "completed",
    }
    diary.close()
    assert json.loads(capsys.readouterr().out)["verdict"] == "late"


def test_a_page_that_is_given_back_is_due_after_the_pause(ratus: Client, ratus_server: RatusServer) -> None:
    with claim(ratus) as delivery:
        give_back(delivery, 0.25)

    assert ratus.poll("crawl") is None
    ratus_server.advance("250ms")
    assert ratus.poll("crawl") is not None


# --- reading pages ------------------------------------------------------------------------------------------


def test_a_page_has_a_title_and_links() -> None:
    html = """<title>One &amp;\n two</title><svg><title>Figure</title></svg>
        <a href="b.html#part">b</a> <A HREF='../c.html?query'>c</A> <a name="x">none</a> <a href>empty</a>
        <a href="b.html">again</a> <a href="d%20e.html">d</a> <a href="d e.html">d again</a>
        <a href="https://example.com/">out</a> <a href="mailto:a@example.com">mail</a>
        <a href="//[broken">broken</a> <a href="#top">self</a>
    """

    page = read_page("http://h:1/x/a.html", html)

    assert page.title == "One & two"
    assert page.links == [
        "http://h:1/x/b.html",
        "http://h:1/c.html",
        "http://h:1/x/d%20e.html",
        "http://h:1/x/a.html",
    ]


def test_a_link_too_long_for_an_id_is_left_out() -> None:
    longest = "a" * (LONGEST_URL - len("http://h/"))

    links = read_page("http://h/", f'<a href="{longest}">fits</a><a href="{longest}a">does not</a>').links

    assert links == [f"http://h/{longest}"]


def test_the_survey_and_the_crawler_read_the_same_pages_alike(tmp_path: Path) -> None:
    sample_site.write_sample_site(tmp_path, pages=100)

    surveyed = survey(tmp_path, START)

    assert len(surveyed.pages) == 100
    assert surveyed.missing == {"/never-written.html"}
    for path, page in surveyed.pages.items():
        read = read_page(url_of("http://h", path), (tmp_path / path[1:]).read_text(encoding="utf-8"))
        assert read.title == page.title
        assert {unquote(link.removeprefix("http://h")) for link in read.links} == page.links


def test_the_survey_counts_links_from_the_start(tmp_path: Path) -> None:
    for name, linked in {"index": "a", "a": "b", "b": "index"}.items():
        (tmp_path / f"{name}.html").write_text(f'<a href="{linked}.html">next</a>')

    pages = survey(tmp_path, START).pages

    assert {path: page.depth for path, page in pages.items()} == {START: 0, "/a.html": 1, "/b.html": 2}


# --- the site -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A site of a start page, a reliable page and an unreliable one, in a folder with a secret beside it."""
    folder = tmp_path / "site"
    folder.mkdir()
    (tmp_path / "secret.html").write_text("secret")
    for name in ("index", "reliable", unreliable_name()):
        (folder / f"{name}.html").write_text("<html><body class='x'>page</body></html>")
    return folder


def unreliable_name() -> str:
    return next(f"page-{n}" for n in range(1000) if is_unreliable(f"/page-{n}.html"))


def test_the_site_makes_its_trouble(folder: Path) -> None:
    site = Site(folder, START, tired_after=3)
    assert not is_unreliable("/reliable.html")

    start = site.get(START, "me")
    assert start.status == 200
    assert f"<body class='x'><a href=\"{BROKEN_PAGE}\">".encode() in start.body
    assert [site.get(BROKEN_PAGE, "me").status for _ in range(3)] == [500, 500, 500]
    assert [site.get(f"/{unreliable_name()}.html", "me").status for _ in range(3)] == [503, 503, 200]
    assert site.get("/nowhere.html", "me").status == 404
    # The third page that it delivers makes it tired, of everything.
    assert site.get("/reliable.html", "me").status == 200
    tired = site.get(START, "me")
    assert (tired.status, tired.retry_after) == (429, 1)
    assert site.log[-1] == Visit("me", START, 429)


@pytest.mark.parametrize("path", ["/../secret.html", "/x/../../secret.html", "/..", "/\0", "/nowhere/", "/."])
def test_the_site_serves_nothing_but_its_files(folder: Path, path: str) -> None:
    assert find_file(folder, path) is None


def test_the_site_serves_over_one_connection(folder: Path) -> None:
    with (
        serving(Site(folder, START, tired_after=100)) as origin,
        httpx.Client(limits=httpx.Limits(max_connections=1), trust_env=False) as client,
    ):
        answers = [client.get(f"{origin}/reliable.html") for _ in range(3)]

    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert answers[0].headers["content-type"] == "text/html"
