"""A documentation site: static files on 127.0.0.1, with some of the trouble that real sites make.

The trouble is the same in every run, as it depends on addresses and counts, never on chance:

- one page in twenty says 503 to its first two visitors,
- one page, linked from the start page only, says 500 to every visitor,
- after every so many pages the site wants a pause: for a second, and for one request at least, it answers
  429 with `Retry-After: 1`.
"""

from __future__ import annotations

import contextlib
import math
import mimetypes
import re
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

BROKEN_PAGE = "/always-broken.html"

_UNAVAILABLE_ONE_IN = 20
_UNAVAILABLE_TIMES = 2
# In seconds. Retry-After has no smaller unit.
_PAUSE = 1.0


@dataclass(frozen=True)
class Visit:
    """One request and how it was answered. `path` is percent-decoded."""

    visitor: str
    path: str
    status: int


@dataclass(frozen=True)
class Reply:
    """An answer before it is written."""

    status: int
    content_type: str = "text/plain; charset=utf-8"
    body: bytes = b""
    retry_after: int | None = None


class Site:
    """What the site answers, and a log of all requests. Used by many threads.

    `tired_after` is the number of pages after which it wants a pause.
    """

    def __init__(self, root: Path, start_page: str, *, tired_after: int) -> None:
        self._root = root
        self._start_page = start_page
        self._tired_after = tired_after
        # When the pause is over; 0 while there is none.
        self._open_again = 0.0
        self._sent_away = 0
        self._delivered = 0
        self._excuses: Counter[str] = Counter()
        self._lock = threading.Lock()
        self.log: list[Visit] = []

    def get(self, target: str, visitor: str) -> Reply:
        """Answer a request for `target`, a path as it stands in the request line."""
        path = unquote(urlsplit(target).path)
        with self._lock:
            reply = self._reply(path)
            self.log.append(Visit(visitor, path, reply.status))
        return reply

    def _reply(self, path: str) -> Reply:
        if self._open_again:
            pause = self._open_again - time.monotonic()
            if pause > 0 or not self._sent_away:
                # If no request came during the pause, the first one after it is sent away instead.
                self._sent_away += 1
                return Reply(429, retry_after=max(math.ceil(pause), 1))
            self._open_again = 0.0
            self._sent_away = 0
        if path == BROKEN_PAGE:
            return Reply(500)
        file = find_file(self._root, path)
        if file is None:
            return Reply(404)
        if is_unreliable(path) and self._excuses[path] < _UNAVAILABLE_TIMES:
            self._excuses[path] += 1
            return Reply(503)
        self._delivered += 1
        if self._delivered % self._tired_after == 0:
            self._open_again = time.monotonic() + _PAUSE
        body = file.read_bytes()
        if path == self._start_page:
            link = b'<a href="%s">broken</a>' % BROKEN_PAGE.encode()
            body = re.sub(rb"(<body[^>]*>)", rb"\1" + link, body, count=1)
        return Reply(200, mimetypes.guess_type(file.name)[0] or "application/octet-stream", body)


def is_unreliable(path: str) -> bool:
    """Whether the page says 503 to its first visitors."""
    return zlib.crc32(path.encode()) % _UNAVAILABLE_ONE_IN == 0


def find_file(root: Path, path: str) -> Path | None:
    """The file of a decoded path, or None; that of a folder is its index.html. Never outside `root`."""
    if "\0" in path or ".." in path.split("/"):
        return None
    file = root / (path.lstrip("/") + "index.html" if path.endswith("/") else path.lstrip("/"))
    return file if file.is_file() else None


class _Server(ThreadingHTTPServer):
    # Threads that wait for the next request of a kept-alive connection must not keep the process alive.
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        # The example kills a consumer on purpose, perhaps in the middle of a page.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


@contextlib.contextmanager
def serving(site: Site) -> Iterator[str]:
    """Serve on a free port of 127.0.0.1; gives the address of the site, without a slash at the end."""

    class Handler(BaseHTTPRequestHandler):
        # Connections are kept alive; headers and body are two writes, and must not wait for each other.
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            reply = site.get(self.path, self.headers.get("User-Agent", ""))
            self.send_response(reply.status)
            self.send_header("Content-Type", reply.content_type)
            self.send_header("Content-Length", str(len(reply.body)))
            if reply.retry_after is not None:
                self.send_header("Retry-After", str(reply.retry_after))
            self.end_headers()
            self.wfile.write(reply.body)

        def log_message(self, format: str, *args: Any) -> None:
            """The site keeps a log of its own."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def url_of(origin: str, path: str) -> str:
    """The address of a decoded path."""
    return origin + quote(path, safe="/")
