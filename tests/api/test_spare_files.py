"""Clients cannot use up the files that a server needs: it answers probes, and its snapshot is written."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path

import pytest

from tests.server.support import Client, ConnectionEnded
from tests.servers import Api, assert_error, eventually, serving

FILES = 100
"""What the server may open. Half of it is kept from connections."""


@pytest.mark.parametrize("connections", ["0", "16384"])
def test_connections_leave_files_for_probes_and_snapshots(tmp_path: Path, connections: str) -> None:
    snapshot = tmp_path / "snapshot"
    flags = ["--memdb-snapshot-path", str(snapshot), "--memdb-snapshot-interval", "1ms"]
    flags += ["--chore-interval", "100ms", "--max-connections", connections]
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path, *flags, files=FILES))
        eventually(
            lambda: server.connections() <= 3, "the end of the connections that asked whether it is ready"
        )
        clients = [stack.enter_context(Api(server.port)) for _ in range(FILES)]
        statuses = [client.get("/v1/topics").status for client in clients]
        assert statuses == [200] * (FILES // 2) + [503] * (FILES // 2)

        # Full, it still answers probes, each on a connection that ends with the answer.
        for path in ("/livez", "/readyz", "/v1/healthz"):
            with Api(server.port) as probe:
                answer = probe.get(path)
            assert (answer.status, answer.headers["connection"]) == (200, "close")
        with Api(server.port) as other:
            refused = other.get("/v1/topics")
        assert_error(refused, 503, "connections are open at a time")
        assert refused.headers["retry-after"] == "1"

        # And what it holds is written, though no client lets go of a file.
        before = snapshot.stat().st_mtime_ns if snapshot.exists() else 0
        clients[0].insert("t", "1", payload="x")
        eventually(lambda: snapshot.exists() and snapshot.stat().st_mtime_ns > before, "a snapshot")
        assert "Too many open files" not in server.log


def test_probing_connections_that_send_nothing_are_few_and_end_soon(tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(serving(tmp_path, "--max-connections", "1"))
        eventually(
            lambda: server.connections() <= 3, "the end of the connections that asked whether it is ready"
        )
        first = stack.enter_context(Api(server.port))
        assert first.get("/livez").status == 200
        for _ in range(40):
            stack.enter_context(Client(server.port))

        def probed() -> bool:
            with contextlib.suppress(ConnectionEnded, OSError), Api(server.port) as probe:
                return probe.get("/livez").status == 200
            return False

        eventually(probed, "a probe that is answered once the silent connections were ended")
        assert json.loads(first.get("/v1/topics").body) == {"data": []}
