"""`App("memory:")` and `App("sqlite:tasks.db")`: the tasks are on a server within the program.

It is the real server, on a port of this machine, with a token that only this program knows. It starts when it
is first needed.
"""

from __future__ import annotations

import concurrent.futures.thread
import os
import secrets
import threading
import weakref
from typing import TYPE_CHECKING, Any, Final

from ratus.app.connection import RemoteConnection

if TYPE_CHECKING:
    from ratus.runtime.embedded import EmbeddedServer

_MEMORY: Final = "memory:"
_SQLITE: Final = "sqlite:"

_STOP_SECONDS: Final = 10.0
"""Seconds that the server may take to stop when the program ends."""


def flags_of(url: str) -> list[str] | None:
    """The flags of the server that such a URL stands for; `None` for the URL of another server.

    Raises `ValueError` for one that says too much or too little.
    """
    if url.startswith(_MEMORY):
        if url != _MEMORY:
            raise ValueError(f"the URL {url} says too much: tasks in memory have no name; give {_MEMORY}")
        return []
    if url.startswith(_SQLITE):
        path = url.removeprefix(_SQLITE)
        if not path:
            raise ValueError(f"the URL {url} names no file; give one such as sqlite:tasks.db")
        return ["--engine", "sqlite", "--sqlite-path", path]
    return None


_running: Final[weakref.WeakSet[InsideConnection]] = weakref.WeakSet()
"""Connections whose servers are to be stopped when the program ends."""


class InsideConnection(RemoteConnection):
    """The tasks are on a server that this program runs.

    A forked child goes on using the server of its parent, if that had started before.
    """

    def __init__(self, flags: list[str], options: dict[str, Any]) -> None:
        super().__init__(None, None, options)
        self._flags = flags
        self._lock = threading.Lock()
        self._server: EmbeddedServer | None = None
        self._process = os.getpid()
        self._elsewhere = False

    @property
    def is_in_memory(self) -> bool:
        """Whether the tasks are gone when the program ends."""
        return not self._flags

    def move_to(self, url: str | None, token: str | None) -> None:
        super().move_to(url, token)
        self._elsewhere = True

    def where(self) -> tuple[str | None, str | None]:
        if self._elsewhere:
            return self._url, self._token
        with self._lock:
            if self._server is None:
                # Loaded late: most programs have their server elsewhere.
                from ratus.core.clock import SystemClock
                from ratus.runtime.embedded import EmbeddedServer

                self._token = secrets.token_urlsafe(24)
                self._server = EmbeddedServer(
                    [*self._flags, "--auth-tokens", self._token], clock=SystemClock()
                )
                self._server.start()
                self._process = os.getpid()
                _running.add(self)
            return self._server.url, self._token

    def close(self) -> None:
        super().close()
        self._stop(_STOP_SECONDS)

    def let_go(self) -> None:
        super().let_go()
        self._stop(0.0)

    def forget(self) -> None:
        super().forget()
        self._lock = threading.Lock()

    def _stop(self, seconds: float) -> None:
        server = self._server
        # A forked child leaves its parent's server alone.
        if server is not None and self._process == os.getpid():
            self._server = None
            _running.discard(self)
            server.stop(seconds)


def _stop_all() -> None:
    for connection in list(_running):
        connection._stop(_STOP_SECONDS)


# Not by `atexit`, which comes after the threads of `concurrent.futures` have ended: the sqlite engine needs
# one to close its file. Functions registered so are called before those of modules imported earlier.
assert concurrent.futures.thread
threading._register_atexit(_stop_all)  # type: ignore[attr-defined]
