"""What a crawler reads in a page: its title and the pages of the same site that it links to."""

from __future__ import annotations

from dataclasses import dataclass
from html.parser import HTMLParser
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

# The longest id that a task may have, in bytes. No page of a sane site has a longer address.
LONGEST_URL = 1024


@dataclass(frozen=True)
class Page:
    """The title, with white space tidied, and the links: each once, in order of appearance."""

    title: str
    links: list[str]


def read_page(url: str, html: str) -> Page:
    """Read the page that was found at `url`. Broken HTML is read as far as it makes sense."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    found = (_address(url, reference) for reference in reader.references)
    links = dict.fromkeys(link for link in found if link is not None)
    return Page(" ".join("".join(reader.title).split()), list(links))


def host(url: str) -> str:
    """The host that serves a page, with its port."""
    return urlsplit(url).netloc


def _address(page: str, reference: str) -> str | None:
    """The one address by which a referenced page is known; None when it is not for this crawl.

    Two spellings of one address would be two tasks. So the fragment goes, as it names a place within a page;
    the query goes, as the pages of a documentation site do not depend on it; and the path is encoded anew.
    """
    try:
        scheme, netloc, path, _, _ = urlsplit(urljoin(page, reference.strip()))
    except ValueError:
        return None
    if (scheme, netloc) != urlsplit(page)[:2]:
        return None
    url = urlunsplit((scheme, netloc, quote(unquote(path or "/"), safe="/"), "", ""))
    return url if len(url) <= LONGEST_URL else None


class _Reader(HTMLParser):
    """Collects the text of the first <title> and the href of every <a>."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.title: list[str] = []
        self.references: list[str] = []
        self._in_title = False
        self._had_title = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "title":
            self._in_title = not self._had_title
        elif tag == "a":
            self.references += [value for name, value in attrs if name == "href" and value]

    def handle_data(self, data: str) -> None:
        if self._in_title:
            self.title.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "title":
            self._in_title = False
            self._had_title = True
