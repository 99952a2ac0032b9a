"""A kept-alive HTTP connection, with nothing but the standard library."""

from __future__ import annotations

import contextlib
import http.client
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Answer:
    """What a server said. The names of `headers` are in lower case."""

    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes


class Connection:
    """One connection to one server, opened at the first request and kept for the next ones.

    Not for use by several threads at once. `timeout` is in seconds and bounds each wait for the network.
    """

    def __init__(self, url: str, *, agent: str, timeout: float) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is no address of a server; write it like http://127.0.0.1:8000")
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout)
        self._headers = {"User-Agent": agent}

    def request(self, method: str, target: str, body: bytes | None = None) -> Answer:
        """Send a request and read the whole answer. Raises OSError when the server cannot be reached.

        A server may close a connection that is idle, at the very moment at which the next request is sent.
        So a request over a connection that was used before is sent once more over a new one. It may arrive
        twice; nothing here minds: a second insert is ignored, of two claims the lost one lapses, and a second
        commit is refused.
        """
        used_before = self._connection.sock is not None
        try:
            return self._exchange(method, target, body)
        except ConnectionError:
            if not used_before:
                raise
            return self._exchange(method, target, body)

    def _exchange(self, method: str, target: str, body: bytes | None) -> Answer:
        try:
            self._connection.request(method, target, body, self._headers)
            answer = self._connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, answer.reason, headers, answer.read())
        except http.client.HTTPException as error:
            self.close()
            # A connection that ended too early is both kinds of error; callers only have to know one.
            raise error if isinstance(error, OSError) else OSError(f"no HTTP: {error!r}") from error
        except OSError:
            self.close()
            raise

    def close(self) -> None:
        """Close it; the next request opens it again."""
        with contextlib.suppress(OSError):
            self._connection.close()
