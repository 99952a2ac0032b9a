"""A server's memory is as large after many connections as after the first few, whatever became of them."""

from __future__ import annotations

import re
import ssl
from pathlib import Path

import pytest

from tests import servers
from tests.server.ended import (
    HANDSHAKES,
    KINDS,
    TOKEN,
    WITH_ENGINE,
    close,
    flags_of,
    half_close,
    reset,
    visit,
)

MIB = 2**20

# Ways to leave that wait for none of the server's limits of time, which are as they are for clients.
AT_ONCE = (reset, close, half_close)

# What is refused while a large head is read: all of it stays if the refusal keeps its connection.
REFUSED = {name: sent for name, sent in KINDS.items() if name.startswith("400: ") and len(sent) > 60_000}

# Memory that was needed once is kept for the next connections: rounds until it is enough, and further ones.
SETTLING, FURTHER = 2, 2

Crowd = tuple[dict[str, bytes], int, ssl.SSLContext | None]
"""Kinds of connections, how many of each and each way to leave, and whether they speak TLS."""


class Watched:
    """What a server says of itself, on a connection that is kept."""

    def __init__(self, server: servers.Server, tls: ssl.SSLContext | None = None) -> None:
        self._server = server
        self._client = servers.Client(server.port, tls)

    def __enter__(self) -> Watched:
        return self

    def __exit__(self, *exception: object) -> None:
        self._client.sock.close()

    def count(self, metric: str) -> int:
        """This metric, which has no labels."""
        page = self._client.get(b"/metrics", TOKEN).body.decode()
        found = re.search(rf"^{metric} (\d+)", page, re.MULTILINE)
        assert found is not None
        return int(found[1])

    def wait_for_chores(self) -> None:
        """Return when the chores have been done once more, from their beginning to their end."""
        done = self.count("ratus_chore_duration_seconds_count")
        servers.eventually(
            lambda: self.count("ratus_chore_duration_seconds_count") >= done + 2, "a round of the chores"
        )

    def assert_settles(self, *crowds: Crowd, chores: bool = False) -> None:
        """These crowds come round after round, and further rounds leave the server no larger."""
        sizes = []
        for _ in range(SETTLING + FURTHER):
            for kinds, times, tls in crowds:
                visit(self._server.port, kinds.values(), AT_ONCE, tls=tls, times=times)
                servers.eventually(lambda: self.count("ratus_connections") == 1, "the end of all others")
            if chores:
                self.wait_for_chores()
            sizes.append(self._server.memory() / MIB)
        # The size varies by one or two. It grew by twenty when refused connections were kept.
        assert sizes[-1] - sizes[SETTLING - 1] < 6, sizes


@pytest.mark.parametrize("engine", ["memdb", "sqlite", "mongodb"])
def test_connections_leave_no_memory_behind(engine: str, tmp_path: Path) -> None:
    # With memdb, old garbage is collected by the chores alone: without them it is seen as well.
    flags = ("--chore-interval", "0")
    with (
        flags_of(engine, tmp_path) as others,
        servers.serving(tmp_path, *flags, *others) as server,
        Watched(server) as watched,
    ):
        if engine == "memdb":
            watched.assert_settles((KINDS, 3, None), (REFUSED, 30, None))
        else:
            watched.assert_settles((WITH_ENGINE, 3, None))


def test_connections_with_tls_leave_no_memory_behind(
    certificate: tuple[Path, Path], client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    # Where a handshake fails, uvloop leaves a circle of 8 KiB, which is collected with the chores.
    chain, key = map(str, certificate)
    flags = ("--chore-interval", "50ms", "--tls-certfile", chain, "--tls-keyfile", key)
    with (
        flags_of("memdb", tmp_path) as others,
        servers.serving(
            tmp_path, *flags, *others, is_ready=lambda server: "serving on https://" in server.log
        ) as server,
        Watched(server, client_tls) as watched,
    ):
        watched.assert_settles((KINDS, 1, client_tls), (HANDSHAKES, 100, None), chores=True)
