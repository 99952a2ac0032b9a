"""Check the built documentation: every link and anchor leads somewhere, and nothing is loaded from elsewhere.

    python scripts/check_site.py [FOLDER]        # site by default

Looks at the pages as a browser gets them, whatever built them. What a page shows or runs (images, scripts,
styles, fonts) has to be in the site itself; links to other sites are not followed, but have to be https.
Every page has to be reachable from the first, and every entry of the navigation in mkdocs.yml has to be a
page. Prints what is wrong, one line each, and then exits with 1.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
FIRST: Final = "index.html"
# Shown by a web server for what is not there, so nothing links to it.
UNLINKED: Final = {"404.html"}
LOADING: Final = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "img": "src",
    "link": "href",
    "object": "data",
    "script": "src",
    "source": "src",
    "video": "src",
}
# What the Markdown of a page looks like when it was not understood.
LEFTOVERS: Final = re.compile(r"```|\]\([\w./#]+\)|^\s*\|.*\|\s*$|^\s*[-*] \S|^#{1,6} ", re.MULTILINE)


class Page(HTMLParser):
    """One page: the anchors it has, where it leads, what it loads, and its text outside of code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.loads: list[str] = []
        self.text = ""
        self._silent = 0
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        members = {name: value or "" for name, value in attrs}
        self.anchors |= {members[name] for name in ("id", "name") if name in members}
        if tag == "a" and "href" in members:
            self.links.append(members["href"])
        loaded = members.get(LOADING.get(tag, ""), "")
        if loaded:
            self.loads.append(loaded)
        if tag in ("pre", "code", "script", "style"):
            self._silent += 1

    def handle_endtag(self, tag: str) -> None:
        if tag in ("pre", "code", "script", "style"):
            self._silent -= 1

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.text += data


def faults(site: Path) -> Iterator[str]:
    """What is wrong with a built site, one line each."""
    pages = {
        path.relative_to(site).as_posix(): Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
    }
    if FIRST not in pages:
        yield f"{site} has no {FIRST}"
        return
    leads: dict[str, set[str]] = {}
    for name, page in pages.items():
        leads[name] = set()
        for link in page.links:
            target = urlsplit(link)
            if target.scheme or target.netloc:
                if target.scheme != "https":
                    yield f"{name}: {link} is not https"
                continue
            path = _resolve(site, name, target.path)
            if path not in pages and not (site / path).is_file():
                yield f"{name}: {link} leads nowhere"
            elif path in pages:
                leads[name].add(path)
                if unquote(target.fragment) not in pages[path].anchors:
                    yield f"{name}: {link}: no such anchor"
        for address in page.loads:
            target = urlsplit(address)
            if target.scheme or target.netloc:
                yield f"{name}: loads {address} from elsewhere"
            elif not (site / _resolve(site, name, target.path)).is_file():
                yield f"{name}: loads {address}, which is not there"
        if leftover := LEFTOVERS.search(page.text):
            yield f"{name}: Markdown that was not understood: {leftover[0].strip()!r}"
    for style in sorted(site.rglob("*.css")):
        for address in re.findall(
            r"url\(['\"]?((?:[a-z]+:)?//[^)'\"]+)['\"]?\)", style.read_text(encoding="utf-8")
        ):
            yield f"{style.relative_to(site)}: loads {address} from elsewhere"
    reached = _reachable(leads)
    for name in sorted(pages.keys() - reached - UNLINKED):
        yield f"{name}: no page leads to it"


def navigation(entry: Any) -> Iterator[str]:
    """The documents that the navigation of mkdocs.yml names."""
    if isinstance(entry, str):
        yield entry
    elif isinstance(entry, dict):
        for value in entry.values():
            yield from navigation(value)
    else:
        for value in entry:
            yield from navigation(value)


def missing(site: Path) -> Iterator[str]:
    """Entries of the navigation that are no pages of the site."""
    settings = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    for name in navigation(settings["nav"]):
        page = re.sub(r"(README|index)?\.md$", lambda end: f"{'index' if end[1] else ''}.html", name)
        if not (site / page).is_file():
            yield f"mkdocs.yml: {name} is in the navigation, and is no page"


def _resolve(site: Path, page: str, path: str) -> str:
    """The file that a link of a page names, from the site's folder."""
    if not path:
        return page
    start = site if path.startswith("/") else (site / page).parent
    target = (start / unquote(path).lstrip("/")).resolve()
    if target.is_dir():
        target /= FIRST
    return target.relative_to(site.resolve()).as_posix() if target.is_relative_to(site.resolve()) else path


def _reachable(leads: dict[str, set[str]]) -> set[str]:
    reached = {FIRST}
    queue = [FIRST]
    while queue:
        for name in leads[queue.pop()] - reached:
            reached.add(name)
            queue.append(name)
    return reached


def main() -> int:
    """Check and report; the exit code."""
    site = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "site"
    found = [*faults(site), *missing(site)]
    for fault in found:
        print(f"site: {fault}", file=sys.stderr)
    if not found:
        print(f"site: {len(list(site.rglob('*.html')))} pages, every link leads somewhere")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
