"""The command line: `python -m examples.crawl_frontier --help`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from examples.crawl_frontier.crawl import CrawlError, Settings, crawl
from examples.crawl_frontier.ratus_server import ServerError
from examples.crawl_frontier.report import as_text, judge
from examples.crawl_frontier.sample_site import write_sample_site
from ratus import RatusError

# Where Debian's package postgresql-doc puts more than a thousand pages.
_DEBIAN_DOC = Path("/usr/share/doc")
_SITES = "postgresql-doc-*/html"
_SAMPLE_PAGES = 300

_DESCRIPTION = """\
Crawls a documentation site with several consumer processes whose only memory is a Ratus
topic. The site is served on 127.0.0.1 from a folder, and makes some trouble on purpose:
pages that are unavailable now and then, one that is broken for good, and pauses that it
asks for. At the end the crawl is compared with a walk of the same files.
"""

_EPILOG = """\
Exit codes: 0 all checks passed; 1 a check failed, or the crawl did not come to its end;
2 wrong usage; 130 interrupted.

Examples:
  Crawl what is there, with a server of its own, and kill a consumer on the way:
    python -m examples.crawl_frontier --kill-one
  The same with asyncio in the consumers:
    python -m examples.crawl_frontier --kill-one --async
  Use a server that is running (`make run`), to look at it meanwhile:
    python -m examples.crawl_frontier --ratus http://127.0.0.1:8000
  A short one, with a report for programs:
    python -m examples.crawl_frontier --limit 200 --json report.json
"""


def main() -> int:
    """Crawl and print the report; the exit code says how it went."""
    options = _parser().parse_args()
    # These signals raise SystemExit, so that the processes that were started here are ended as well.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if options.kill_one and options.consumers < 2:
        _parser().error("--kill-one needs at least two consumers: one has to finish the crawl")
    with tempfile.TemporaryDirectory(prefix="sample-site-") as folder:
        settings = Settings(
            root=_root(options.site, Path(folder)),
            ratus=options.ratus.rstrip("/") if options.ratus else None,
            consumers=options.consumers,
            asynchronous=options.asynchronous,
            kill_one=options.kill_one,
            limit=options.limit,
            timeout=options.timeout,
            claim_timeout=options.claim_timeout,
        )
        if not (settings.root / settings.start_page[1:]).is_file():
            _parser().error(f"{settings.root} holds no {settings.start_page[1:]} to start from")
        try:
            report = judge(crawl(settings))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except (CrawlError, RatusError, ServerError, OSError, ValueError) as error:
            print(f"crawl_frontier: {error}", file=sys.stderr)
            return 1
    print(f"\n{as_text(report)}")
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n", encoding="utf-8")
    return 0 if report.passed else 1


def _end(number: int, _: object) -> None:
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.crawl_frontier",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--ratus",
        metavar="URL",
        help="a running server, whose topic is kept afterwards [default: one is started for the crawl]",
    )
    parser.add_argument(
        "--site",
        metavar="DIR",
        type=Path,
        help="a folder with an index.html and the pages that it leads to [default: the pages of Debian's "
        f"package postgresql-doc, or {_SAMPLE_PAGES} made-up ones where it is not installed]",
    )
    parser.add_argument(
        "--consumers", metavar="N", type=_number, default=3, help="consumer processes [default: %(default)s]"
    )
    parser.add_argument(
        "--async",
        dest="asynchronous",
        action="store_true",
        help="consumers with asyncio [default: with threads]",
    )
    parser.add_argument(
        "--kill-one",
        action="store_true",
        help="after a third of the pages, end one of the consumers by SIGKILL, while it holds claims",
    )
    parser.add_argument(
        "--limit",
        metavar="N",
        type=_number,
        help="follow no more links once N pages are queued; a few more may be by then, as consumers do not "
        "wait for each other [default: the whole site]",
    )
    parser.add_argument(
        "--timeout",
        metavar="SECONDS",
        type=_seconds,
        default=300.0,
        help="give up when the crawl takes longer [default: %(default)g]",
    )
    parser.add_argument(
        "--claim-timeout",
        metavar="SECONDS",
        type=_seconds,
        default=5.0,
        help="when the claims of a consumer that died lapse; longer than a healthy one needs for a batch "
        "[default: %(default)g]",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="also write the report as JSON")
    return parser


def _root(chosen: Path | None, folder: Path) -> Path:
    """The folder to serve; where none is chosen or installed, made-up pages are written to `folder`."""
    if chosen is not None:
        return chosen.resolve()
    installed = sorted(_DEBIAN_DOC.glob(_SITES))
    if installed:
        return installed[-1]
    print(f"No documentation found at {_DEBIAN_DOC / _SITES}: crawling {_SAMPLE_PAGES} made-up pages")
    write_sample_site(folder, _SAMPLE_PAGES)
    return folder


def _number(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    # Not NaN either, and not so long that a duration cannot hold it.
    if not 0.001 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError("must be between 0.001 and 1,000,000 seconds")
    return seconds


if __name__ == "__main__":
    sys.exit(main())
