"""The server's URL and token: where they are taken from, and the parts of the URL."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8000"

_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PREFIX: Final = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*")


def url_of(given: str | None) -> str:
    """The server's URL: `given`, else the environment variable RATUS_URL, else `DEFAULT_URL`."""
    return given or os.environ.get("RATUS_URL") or DEFAULT_URL


def token_of(given: str | None) -> str:
    """The token: `given`, else the environment variable RATUS_TOKEN. An empty text means no token."""
    return os.environ.get("RATUS_TOKEN", "") if given is None else given


@dataclass(frozen=True, slots=True)
class Address:
    """The address of a server: scheme, host and port, and the path under which a proxy serves it."""

    secure: bool
    host: str
    port: int
    prefix: str
    authority: str
    """The value of the `Host` header."""

    @classmethod
    def parse(cls, url: str) -> Address:
        """Parse a URL such as `http://127.0.0.1:8000`. Raises `ValueError`, which says what is wrong."""
        # The password that a URL may hold must not end up in an error message.
        shown = re.sub(r"//[^/@]*@", "//…@", url)
        try:
            parts = urlsplit(url)
            host, port = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"the URL {shown} cannot be read: {error}") from None
        if parts.scheme not in _DEFAULT_PORTS or not host:
            raise ValueError(
                f"the URL {shown} is not one such as http://127.0.0.1:8000 or https://example.com"
            )
        if parts.username is not None:
            raise ValueError(f"the URL {shown} holds a user name; give a token instead")
        if parts.query or parts.fragment:
            raise ValueError(f"the URL {shown} has a query or a fragment; give scheme, host, port and path")
        prefix = parts.path.rstrip("/")
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"the path of the URL {shown} has characters that must be percent-encoded")
        default = _DEFAULT_PORTS[parts.scheme]
        try:
            name = host if ":" in host else host.encode("idna").decode("ascii")
        except UnicodeError:
            raise ValueError(f"the host of the URL {shown} is not a valid name") from None
        authority = f"[{name}]" if ":" in name else name
        if port not in (None, default):
            authority = f"{authority}:{port}"
        return cls(parts.scheme == "https", name, port or default, prefix, authority)

    @property
    def origin(self) -> str:
        """The URL without its path."""
        return f"{'https' if self.secure else 'http'}://{self.authority}"

    def __str__(self) -> str:
        return f"{self.origin}{self.prefix}"
