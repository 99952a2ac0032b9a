"""The verdict on a crawl: Ratus, the files, the site's log and the consumers' words, compared."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from examples.crawl_frontier.crawl import Evidence
from examples.crawl_frontier.frontier import MAX_ATTEMPTS, has_ended, total
from examples.crawl_frontier.site import BROKEN_PAGE
from ratus import Task


@dataclass(frozen=True)
class Check:
    """Something that has to be so, and what was found."""

    name: str
    passed: bool
    found: str


@dataclass(frozen=True)
class Report:
    """The figures of a crawl, and the checks."""

    figures: dict[str, Any]
    checks: list[Check]

    @property
    def passed(self) -> bool:
        """Whether all checks passed."""
        return all(check.passed for check in self.checks)

    def as_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return {"passed": self.passed, **asdict(self)}


def judge(evidence: Evidence) -> Report:
    """Derive the figures from the evidence, and check it."""
    case = _Case(evidence)
    checks: list[Callable[[_Case], Check]] = [
        _nothing_is_open,
        _no_page_is_lost,
        _nothing_else_is_crawled,
        _every_page_is_read_right,
        _dead_links_are_reported,
        _the_broken_page_is_a_dead_letter,
        _no_page_is_committed_twice,
        _no_page_is_fetched_twice,
        _ratus_counted_the_same,
        _the_consumers_ended_well,
    ]
    if evidence.settings.kill_one:
        checks.append(_the_killed_consumers_pages_are_crawled)
    return Report(_figures(case), [check(case) for check in checks])


class _Case:
    """The evidence, sorted by path."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.surveyed = evidence.survey.pages
        self.crawled = {self.path(task.id): task for task in evidence.completed}
        archived = {self.path(task.id): task for task in evidence.archived}
        self.dead_letters = {path: task for path, task in archived.items() if task.outcome == "failed"}
        self.rejected = {path: task for path, task in archived.items() if path not in self.dead_letters}
        self.killed = evidence.killed.consumer if evidence.killed else None
        self.held = {self.path(url) for url in evidence.killed.held} if evidence.killed else set()

    def path(self, url: str) -> str:
        """The decoded path of an address of the site."""
        return unquote(url.removeprefix(self.evidence.origin))

    def said(self, verdict: str) -> list[str]:
        """The paths for which consumers reported this verdict, one for each report."""
        return [self.path(said["url"]) for said in self.evidence.said if said["verdict"] == verdict]


def _figures(case: _Case) -> dict[str, Any]:
    evidence = case.evidence
    verdicts = Counter(said["verdict"] for said in evidence.said)
    answers = Counter(visit.status for visit in evidence.visits)
    begun = min((_time(task.produced) for task in evidence.completed), default=0.0)
    times: dict[int, list[float]] = {}
    for task in evidence.completed:
        times.setdefault(task.payload["depth"], []).append(_time(task.committed) - begun)
    return {
        "seconds": round(evidence.seconds, 2),
        "pages_per_second": round(len(case.crawled) / evidence.seconds, 1),
        "crawled": len(case.crawled),
        "links": sum(len(task.result["links"]) for task in evidence.completed),
        "not_found": len(case.rejected),
        "dead_letters": len(case.dead_letters),
        "answers_of_the_site": {str(status): number for status, number in sorted(answers.items())},
        "verdicts": dict(sorted(verdicts.items())),
        "crawled_after_a_failure": sum(task.attempts > 1 for task in evidence.completed),
        "found_by_the_shortest_way": sum(
            path in case.surveyed and task.payload["depth"] == case.surveyed[path].depth
            for path, task in case.crawled.items()
        ),
        "depths": {
            str(depth): {"pages": len(seconds), "median_second": round(statistics.median(seconds), 2)}
            for depth, seconds in sorted(times.items())
        },
        "counters": evidence.counters,
        "killed": asdict(evidence.killed) if evidence.killed else None,
    }


def _time(instant: datetime | None) -> float:
    assert instant is not None, "a completed task has them all"
    return instant.timestamp()


# --- checks -------------------------------------------------------------------------------------------------


def _nothing_is_open(case: _Case) -> Check:
    known = case.evidence.states
    return Check(
        "nothing is left open", has_ended(known), f"{known.pending} pages are pending, {known.active} active"
    )


def _no_page_is_lost(case: _Case) -> Check:
    limit = case.evidence.settings.limit
    if limit is None:
        lost = case.surveyed.keys() - case.crawled.keys()
        found = f"{len(case.crawled):,} of {len(case.surveyed):,} pages were crawled"
        return Check("no page is lost", not lost, found + _some(lost))
    known = case.evidence.states
    queued = total(known)
    ended = known.completed == len(case.crawled) == queued - known.archived
    enough = queued >= min(limit, len(case.surveyed))
    return Check("no page is lost", ended and enough, f"{queued:,} were queued up to the limit of {limit:,}")


def _nothing_else_is_crawled(case: _Case) -> Check:
    others = case.crawled.keys() - case.surveyed.keys()
    return Check(
        "nothing else is crawled", not others, f"{len(others)} pages are not among the files" + _some(others)
    )


def _every_page_is_read_right(case: _Case) -> Check:
    wrong = {path for path, task in case.crawled.items() if not _is_right(case, path, task)}
    return Check(
        "every page is read right",
        not wrong,
        f"{len(wrong)} differ from the file, title or links" + _some(wrong),
    )


def _is_right(case: _Case, path: str, task: Task) -> bool:
    page = case.surveyed.get(path)
    if page is None:
        return False
    # The site adds this link to its start page; the files do not have it.
    added = {BROKEN_PAGE} if path == case.evidence.settings.start_page else set()
    result = task.result
    return (
        result["status"] == 200
        and result["title"] == page.title
        and {case.path(url) for url in result["links"]} == page.links | added
        # It may be found by a detour first, but never by less than the shortest way.
        and task.payload["depth"] >= page.depth
    )


def _dead_links_are_reported(case: _Case) -> Check:
    missing = case.evidence.survey.missing
    as_they_are = case.rejected.keys() == missing if case.evidence.settings.limit is None else True
    right = all(path in missing and task.error == "404 Not Found" for path, task in case.rejected.items())
    return Check(
        "dead links are reported",
        as_they_are and right,
        f"{len(case.rejected)} of {len(missing)} were archived as 404",
    )


def _the_broken_page_is_a_dead_letter(case: _Case) -> Check:
    letter = case.dead_letters.get(BROKEN_PAGE, Task(id=BROKEN_PAGE))
    # The exception in one line; below it is its traceback.
    error = letter.error.partition("\n")[0]
    right = (
        case.dead_letters.keys() == {BROKEN_PAGE}
        and letter.attempts == MAX_ATTEMPTS
        and error.endswith("Unavailable: 500 Internal Server Error")
    )
    found = f"{len(case.dead_letters)} dead letter" + _some(case.dead_letters)
    return Check(
        "the broken page is a dead letter",
        right,
        f"{found}, {letter.attempts} attempts, {error.rpartition('.')[2]}",
    )


def _no_page_is_committed_twice(case: _Case) -> Check:
    times = Counter(case.said("completed"))
    twice = {path for path, number in times.items() if number > 1}
    # The killed consumer may have died before it could say what it had committed.
    unsaid = {
        path for path, task in case.crawled.items() if path not in times and task.consumer != case.killed
    }
    return Check(
        "no page is committed twice",
        not twice and not unsaid and times.keys() <= case.crawled.keys(),
        f"{times.total():,} commits of {len(times):,} pages; {len(twice)} twice, "
        f"{len(unsaid)} by an unknown consumer" + _some(twice | unsaid),
    )


def _no_page_is_fetched_twice(case: _Case) -> Check:
    times = Counter(visit.path for visit in case.evidence.visits if visit.status == 200)
    twice = {path for path, number in times.items() if number > 1}
    excused = case.held | set(case.said("late"))
    return Check(
        "no page is fetched twice without a reason",
        twice <= excused,
        f"{len(twice)} were, {len(twice & excused)} of them because a claim lapsed" + _some(twice - excused),
    )


def _ratus_counted_the_same(case: _Case) -> Check:
    differ, claims, commits = set(), 0, 0
    for name in case.evidence.exit_codes:
        verdicts = [said["verdict"] for said in case.evidence.said if said["consumer"] == name]
        counted = case.evidence.counters.get(name, {})
        consumed, committed = counted.get("consumed", 0), counted.get("committed", 0)
        late = verdicts.count("late")
        if name == case.killed:
            # It could not say what became of its last claims.
            same = consumed >= len(verdicts) + len(case.held) and committed >= len(verdicts) - late
        else:
            # Beside visits there may be pages claimed ahead and given back; that is a commit for each, too.
            # A consumer so slow that claims lapsed may also have lost some of those, and does not say so.
            least = len(verdicts) - late if late else consumed
            same = consumed >= len(verdicts) and least <= committed <= consumed - late
        differ |= set() if same else {name}
        claims, commits = claims + consumed, commits + committed
    return Check(
        "the metrics of the server count the same",
        not differ,
        f"{claims:,} claims, {commits:,} commits" + _some(differ),
    )


def _the_consumers_ended_well(case: _Case) -> Check:
    bad = {n for n, code in case.evidence.exit_codes.items() if code != 0 and n != case.killed}
    number = len(case.evidence.exit_codes) - len(bad) - (case.killed is not None)
    return Check("the other consumers ended by themselves", not bad, f"{number} did" + _some(bad))


def _the_killed_consumers_pages_are_crawled(case: _Case) -> Check:
    name = "the pages of the killed consumer are crawled"
    if case.killed is None:
        return Check(name, False, "the crawl was over before a consumer could be killed")
    ended = case.crawled | case.dead_letters | case.rejected
    recovered = {
        path
        for path in case.held
        if path in ended and ended[path].attempts > 1 and ended[path].consumer != case.killed
    }
    return Check(
        name,
        recovered == case.held,
        f"{case.killed} held {len(case.held)}, others ended {len(recovered)} of them"
        + _some(case.held - recovered),
    )


def _some(paths: Iterable[str]) -> str:
    """The first few paths, as the end of a finding; an empty text when there are none."""
    first = sorted(paths)[:3]
    return f": {', '.join(first)}" if first else ""


# --- as text ------------------------------------------------------------------------------------------------


def as_text(report: Report) -> str:
    """The report for people."""
    figures = report.figures
    answers = figures["answers_of_the_site"]
    verdicts = figures["verdicts"]
    lines = [
        f"Crawled {figures['crawled']:,} pages with {figures['links']:,} links in {figures['seconds']} s, "
        f"{figures['pages_per_second']:,} pages/s.",
        "",
        "What the site answered, and what the consumers did about it",
        f"  200  {answers.get('200', 0):6,}   committed with title and links",
        f"  429  {answers.get('429', 0):6,}   the host is left alone for as long as it asked: "
        f"{verdicts.get('given back', 0):,} times a page was given back, deferred",
        f"  503  {answers.get('503', 0):6,}   committed as failures, tried again after a backoff: "
        f"{figures['crawled_after_a_failure']:,} pages were crawled at a later attempt",
        f"  500  {answers.get('500', 0):6,}   the same, until the attempts were used up: "
        f"{figures['dead_letters']} dead letter",
        f"  404  {answers.get('404', 0):6,}   archived at once",
        "",
        "Shallow pages first: links from the start, pages, when half of them were crawled",
        *(
            f"  {depth:>3}  {of['pages']:6,}   {of['median_second']:6.2f} s"
            for depth, of in figures["depths"].items()
        ),
        f"  {figures['found_by_the_shortest_way']:,} of them were found by the shortest way",
        "",
        "What the metrics of the server say: claims, commits",
        *(
            f"  {name:12} {of.get('consumed', 0):6,} {of.get('committed', 0):6,}"
            + ("   killed" if figures["killed"] and figures["killed"]["consumer"] == name else "")
            for name, of in sorted(figures["counters"].items())
        ),
        "",
        "Checks",
        *(
            f"  {'ok    ' if check.passed else 'FAILED'}  {check.name}: {check.found}"
            for check in report.checks
        ),
    ]
    return "\n".join(lines)
