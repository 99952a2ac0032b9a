"""The documentation as a site: it builds strictly, and every link of it leads somewhere."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from scripts import build_site, check_site
from scripts.build_site import Site, SiteError
from tests.api import browser


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew."""
    folder = tmp_path_factory.mktemp("site")
    assert build_site.build(folder) == 0
    return folder / "site"


def test_it_has_no_faults(site: Path) -> None:
    assert [*check_site.faults(site), *check_site.missing(site)] == []


def test_every_document_is_a_page(site: Path) -> None:
    for path in (build_site.ROOT / "docs").rglob("*.md"):
        page = path.relative_to(build_site.ROOT / "docs").with_suffix(".html")
        assert (site / page.with_name(page.name.replace("README", "index"))).is_file(), page


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Serves files and writes no log."""

    def log_message(self, *args: Any) -> None:
        pass


@contextlib.contextmanager
def served(folder: Path) -> Iterator[str]:
    """The address of a folder."""
    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()


def test_a_browser_loads_nothing_from_elsewhere_and_finds_things(site: Path, tmp_path: Path) -> None:
    if missing := browser.missing():
        if os.environ.get("CI"):
            pytest.fail(f"a browser is needed: {missing}")
        pytest.skip(f"no browser: {missing}")
    with served(site) as address, browser.browsing(tmp_path) as window:
        for page in ("index.html", "concepts.html", "api.html"):
            window.open(address + page)
            window.until("[...document.images].every(image => image.complete && image.naturalWidth)")
        # Words of other systems lead to ours.
        window.click("button.md-search__button")
        root = "document.activeElement.shadowRoot"
        window.until(f"{root}?.querySelector('input')")
        typed = "field.value = 'visibility timeout', field.dispatchEvent(new Event('input', {bubbles: true}))"
        window.until(f"(field => ({typed}))({root}.querySelector('input'))")
        window.until(f"[...{root}.querySelectorAll('a')].some(a => a.href.includes('/glossary.html'))")
        requested = window.requested(address)
        assert requested
        assert [url for url in requested if not url.startswith((address, "data:", "blob:"))] == []
        assert window.complaints() == []


# ---- the check itself would notice ---------------------------------------------------------------


def page(*parts: str) -> str:
    return f'<html><body><h1 id="top">Title</h1><a href="other.html">other</a>{"".join(parts)}</body></html>'


FAULTS = {
    "a link": ('<a href="none.html">x</a>', "leads nowhere"),
    "an anchor": ('<a href="other.html#none">x</a>', "no such anchor"),
    "an anchor of the page": ('<a href="#none">x</a>', "no such anchor"),
    "a way out of the site": ('<a href="../../secret.html">x</a>', "leads nowhere"),
    "in clear": ('<a href="http://example.com/">x</a>', "is not https"),
    "a script of others": ('<script src="https://example.com/x.js"></script>', "from elsewhere"),
    "a script of others, without a scheme": ('<script src="//example.com/x.js"></script>', "from elsewhere"),
    "a style of others": ('<link rel="stylesheet" href="https://example.com/x.css">', "from elsewhere"),
    "a picture that is missing": ('<img src="none.svg">', "which is not there"),
    "a fence": ("<p>```sh no\n</p>", "not understood"),
    "a table": ("<p>| a | b |\n| - | - |</p>", "not understood"),
    "a list": ("<p>Text\n- one\n- two</p>", "not understood"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_found(name: str, tmp_path: Path) -> None:
    part, complaint = FAULTS[name]
    (tmp_path / "index.html").write_text(page(part))
    (tmp_path / "other.html").write_text(page('<a href="index.html#top">home</a>'))
    (fault,) = check_site.faults(tmp_path)
    assert fault.startswith("index.html: ")
    assert complaint in fault


def test_a_page_that_none_leads_to_is_found(tmp_path: Path) -> None:
    for name in ("index", "other", "lonely"):
        (tmp_path / f"{name}.html").write_text(page())
    assert list(check_site.faults(tmp_path)) == ["lonely.html: no page leads to it"]


def test_a_font_of_others_is_found(tmp_path: Path) -> None:
    for name in ("index", "other"):
        (tmp_path / f"{name}.html").write_text(page())
    (tmp_path / "site.css").write_text('@font-face { src: url("https://example.com/font.woff2") }')
    assert list(check_site.faults(tmp_path)) == [
        "site.css: loads https://example.com/font.woff2 from elsewhere"
    ]


def test_a_site_without_a_first_page_and_an_entry_without_a_page(tmp_path: Path) -> None:
    assert list(check_site.faults(tmp_path)) == [f"{tmp_path} has no index.html"]
    assert "mkdocs.yml: api.md is in the navigation, and is no page" in check_site.missing(tmp_path)


# ---- staging -------------------------------------------------------------------------------------


def stage(folder: Path, **documents: str) -> Path:
    """Lay out a repository of these documents, beside a README and the like; where they are then."""
    root = folder / "root"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text("# R\n\n## Five minutes with curl\n\n### Waiting\n\ntext\n\n## After\n")
    (root / "CHANGELOG.md").write_text("# Changelog\n\n[api](docs/index.md#top)\n")
    (root / "CONTRIBUTING.md").write_text("# Contributing\n")
    (root / "examples").mkdir()
    (root / "examples/hello.py").write_text('"""Says ``` and more."""\n')
    for name, text in documents.items():
        (root / f"docs/{name}.md").write_text(text)
    Site(root).stage(folder / "staged")
    return folder / "staged"


def test_links_follow_and_notes_go(tmp_path: Path) -> None:
    staged = stage(
        tmp_path,
        index="[a](../CHANGELOG.md#x) [b](../examples/hello.py) [c](../examples) [d](https://x.y) [e](#f)\n\n"
        '```json 201\n[x](nowhere.md)\n```\n\n```sh no-run="why"\nls\n```\n',
    )
    assert (staged / "index.md").read_text() == (
        "[a](changelog.md#x) [b](source/examples/hello.py.md) [c](source/examples/index.md) "
        "[d](https://x.y) [e](#f)\n\n```json\n[x](nowhere.md)\n```\n\n```sh\nls\n```\n"
    )
    assert (staged / "changelog.md").read_text() == "# Changelog\n\n[api](index.md#top)\n"
    assert "- [hello.py](hello.py.md)" in (staged / "source/examples/index.md").read_text()
    code = (staged / "source/examples/hello.py.md").read_text()
    assert code == '# examples/hello.py\n\n````python\n"""Says ``` and more."""\n````\n'


def test_of_the_readme_only_the_tour_is_a_page(tmp_path: Path) -> None:
    staged = stage(tmp_path, index="[tour](../README.md#waiting)\n")
    assert (staged / "index.md").read_text() == "[tour](tour.md#waiting)\n"
    assert (staged / "tour.md").read_text() == "# Five minutes with curl\n\n## Waiting\n\ntext\n\n"


@pytest.mark.parametrize("link", ["none.md", "../none.py", "../../root", "../../../etc/passwd"])
def test_a_link_out_of_the_repository_is_refused(link: str, tmp_path: Path) -> None:
    with pytest.raises(SiteError, match="is not in the repository"):
        stage(tmp_path, index=f"[x]({link})\n")
