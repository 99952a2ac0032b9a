"""What a complete crawl has to find, taken from the files: an independent walk of the link graph on disk.

This is the judge of the crawler, so it shares nothing with it: regular expressions instead of a parser, paths
instead of addresses, breadth first in one loop instead of many processes.
"""

from __future__ import annotations

import html
import posixpath
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

_IGNORED = re.compile(r"<!--.*?-->|<script\b.*?</script>|<style\b.*?</style>", re.DOTALL | re.IGNORECASE)
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.DOTALL | re.IGNORECASE)
_HREF = re.compile(r"""<a\s(?:[^>]*?\s)?href\s*=\s*(?:"([^"]*)"|'([^']*)')""", re.IGNORECASE)
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|//", re.IGNORECASE)


@dataclass(frozen=True)
class SurveyedPage:
    """A page on disk: its distance from the start in links, its title, the paths that it links to."""

    depth: int
    title: str
    links: frozenset[str]


@dataclass(frozen=True)
class Survey:
    """The pages that can be reached, and the paths that are linked to but have no file.

    Paths are decoded, such as `/index.html`.
    """

    pages: dict[str, SurveyedPage]
    missing: frozenset[str]


def survey(root: Path, start_page: str) -> Survey:
    """Walk the files under `root` from a start page, breadth first."""
    pages: dict[str, SurveyedPage] = {}
    missing: set[str] = set()
    found, depth = {start_page}, 0
    while found:
        next_found: set[str] = set()
        for path in found:
            file = root / (path[1:] + "index.html" if path.endswith("/") else path[1:])
            if not file.is_file():
                missing.add(path)
                continue
            pages[path] = _read(file, path, depth)
            next_found |= pages[path].links
        found, depth = next_found - pages.keys() - missing, depth + 1
    return Survey(pages, frozenset(missing))


def _read(file: Path, path: str, depth: int) -> SurveyedPage:
    if file.suffix not in (".html", ".htm"):
        return SurveyedPage(depth, "", frozenset())
    text = _IGNORED.sub("", file.read_text(encoding="utf-8", errors="replace"))
    title = _TITLE.search(text)
    references = [html.unescape(double or single).strip() for double, single in _HREF.findall(text)]
    links = {_resolve(path, r) for r in references if r and not _ELSEWHERE.match(r)}
    return SurveyedPage(depth, " ".join(html.unescape(title[1]).split()) if title else "", frozenset(links))


def _resolve(page: str, reference: str) -> str:
    """The path that a reference leads to; without fragment and query."""
    target = unquote(re.split(r"[?#]", reference, maxsplit=1)[0])
    if not target:
        return page
    joined = posixpath.join(posixpath.dirname(page), target)
    folder = "/" if joined.endswith("/") and joined != "/" else ""
    return posixpath.normpath(joined) + folder
