"""Servers on the same data, which are ended, paused and started again while clients work."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Iterator
from pathlib import Path

from tests.servers import Server, eventually, free_port, launch, ready


class Cluster:
    """Servers on the same data, each on a port that stays the same when it is started again."""

    def __init__(self, folder: Path, flags: list[str], size: int) -> None:
        self._folder = folder
        self._flags = flags
        self.ports = [free_port() for _ in range(size)]
        self.running = [self._launch(port) for port in self.ports]

    def _launch(self, port: int) -> Server:
        server = launch(self._folder, *self._flags, "--chore-interval", "1s", port=port)
        eventually(lambda: ready(server), f"the server at port {port}: {server.log}")
        return server

    def restart(self, number: int, how: signal.Signals) -> None:
        """End a server by a signal, and start it again."""
        self.running[number].stop(how)
        self.running[number] = self._launch(self.ports[number])

    def pause(self, number: int, seconds: float) -> None:
        """Stop a server's process, as a machine that is suspended does, and let it go on."""
        self.running[number].process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self.running[number].process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        for server in self.running:
            server.stop(signal.SIGKILL)


@contextlib.contextmanager
def cluster(folder: Path, *flags: str, size: int) -> Iterator[Cluster]:
    servers = Cluster(folder, list(flags), size)
    try:
        yield servers
    finally:
        servers.close()
