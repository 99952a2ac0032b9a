"""A small made-up documentation site, for machines without a real one: pages in a tree, with cross links."""

from __future__ import annotations

import html
import posixpath
import random
from pathlib import Path
from urllib.parse import quote

START_PAGE = "/index.html"
_CHILDREN = 6
_CHAPTERS = 12


def write_sample_site(root: Path, pages: int) -> None:
    """Write so many linked pages, always the same. Each is reached from /index.html; one link is dead."""
    # The seed makes every run crawl the same site.
    chance = random.Random(2006)
    paths = [_path(number) for number in range(pages)]
    for number, path in enumerate(paths):
        children = range(number * _CHILDREN + 1, min((number + 1) * _CHILDREN + 1, pages))
        linked = [paths[child] for child in children] + chance.sample(paths, min(5, pages)) + [START_PAGE]
        if number == pages - 1:
            linked.append("/never-written.html")
        file = root / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(_page(path, number, linked), encoding="utf-8")


def _path(number: int) -> str:
    if number == 0:
        return START_PAGE
    # Names that have to be encoded in an address, and escaped in HTML.
    name = f"C++ & Größe {number}.html" if number % 10 == 3 else f"page-{number}.html"
    return f"/chapter-{number % _CHAPTERS}/{name}"


def _page(path: str, number: int, linked: list[str]) -> str:
    folder = posixpath.dirname(path)
    references = [quote(posixpath.relpath(target, folder)) for target in linked]
    items = "\n".join(f'<li><a class="internal" href="{html.escape(r)}#top">{r}</a></li>' for r in references)
    return f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Page {number} &amp;
 more</title></head>
<body id="top"><h1>Page {number}</h1>
<!-- <a href="commented-out.html">no link</a> -->
<p><A HREF='#top'>Up</A> <a href="mailto:nobody@example.com">Mail</a> <a href="https://example.com/">Out</a></p>
<ul>
{items}
</ul></body></html>
"""
