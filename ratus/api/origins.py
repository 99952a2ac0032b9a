"""Which pages may have a browser change something on a server without tokens.

A browser sends simple requests of any page without asking first, and a server without tokens would obey. So
it takes changes only from its own pages, from origins that ``--cors-origins`` lets in, and from programs that
are no browsers. Requests that only read are not refused: without CORS a page cannot read their answers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

READING: Final = frozenset(("GET", "HEAD", "OPTIONS"))
"""The methods that change nothing."""

_OWN_SITES: Final = (b"same-origin", b"none")  # `none`: the user typed the address


def is_foreign(headers: Mapping[bytes, bytes], allowed: Collection[str]) -> bool:
    """Whether a page of another origin sent a request with these headers, and is not among those allowed."""
    origin = headers.get(b"origin")
    if "*" in allowed or (origin is not None and origin.decode("latin-1") in allowed):
        return False
    site = headers.get(b"sec-fetch-site")
    if site is not None:
        return site not in _OWN_SITES
    if origin is None:
        return False
    # Older browsers, and plain HTTP to another machine. The scheme may be that of a proxy in between.
    _, _, authority = origin.partition(b"://")
    return not authority or authority.lower() != headers.get(b"host", b"").lower()
