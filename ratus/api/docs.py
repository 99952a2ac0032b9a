"""The specification, and the page that shows it: Swagger UI and its files, all from this package.

Nothing is fetched from elsewhere; `assets/VERSION` has the version of Swagger UI. The files of
the specification, `openapi.json` and `openapi.yaml`, are written by `make openapi`.
"""

from __future__ import annotations

import gzip as gzip_format
from functools import cache
from importlib import resources
from typing import Final, Literal

_CONTENT_TYPES: Final = {
    "index.html": "text/html; charset=utf-8",
    "start.js": "text/javascript; charset=utf-8",
    "swagger-ui-bundle.js": "text/javascript; charset=utf-8",
    "swagger-ui.css": "text/css; charset=utf-8",
    "favicon-32x32.png": "image/png",
}

ASSETS: Final = tuple(name for name in _CONTENT_TYPES if name != "index.html")
"""The names of the files that the page needs, under `/assets/`."""

HEADERS: Final = {
    # Scripts, styles and requests of this server only. Swagger UI draws its icons from data: URLs.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
"""The headers that the page and its files are sent with."""


def page(*, gzip: bool = False) -> tuple[bytes, str]:
    """The page and its content type; compressed if asked."""
    return _load("index.html", gzip), _CONTENT_TYPES["index.html"]


def asset(name: str, *, gzip: bool = False) -> tuple[bytes, str] | None:
    """A file of the page and its content type, `None` if it has no such file; compressed if asked."""
    if name not in ASSETS:
        return None
    return _load(name, gzip), _CONTENT_TYPES[name]


def specification(form: Literal["json", "yaml"]) -> bytes:
    """The OpenAPI document of this version of the server."""
    return _load(f"openapi.{form}", False)


@cache
def _load(name: str, gzip: bool) -> bytes:
    """The bytes of a file. Read and compressed once; the largest takes 1.7 MB, 0.5 MB compressed."""
    if gzip:
        return gzip_format.compress(_load(name, False), mtime=0)
    return (resources.files("ratus.api") / "assets" / name).read_bytes()
