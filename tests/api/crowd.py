"""A crowd of waiting clients in a process of its own, which may have more files open than the tests.

`python -m tests.api.crowd PORT` reads one command a line, a JSON list, and answers each with a line of JSON:

- `["wait", [topic, ...], together]`: one client for each topic, in this order, so many at a time, polls and
  waits; how many do once the server has them all.
- `["leave", [number, ...]]`: these clients close, reset or half-close their connections, in turn.
- `["collect"]`: once all that are left have their answers: `[number, status, id of the task, moment]` for
  each; the moment is that of the monotonic clock, which all processes share.
- `["close"]`: everybody goes.
"""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import struct
import subprocess
import sys
import time
from typing import Any, cast

import uvloop

FILES = 30_000

# The longest that any client may have to wait for anything.
PATIENCE = 120.0


class Person(asyncio.Protocol):
    """One client: probes first, then polls and keeps what comes."""

    def __init__(self) -> None:
        self.connected = asyncio.get_running_loop().create_future()
        self.answered = asyncio.get_running_loop().create_future()
        self.data = b""
        self.polling = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but name
        self.transport.write(b"GET /livez HTTP/1.1\r\nhost: x\r\n\r\n")

    def poll(self, topic: str) -> None:
        self.polling = True
        assert self.transport is not None
        self.transport.write(f"POST /v1/topics/{topic}/promises?wait=1h HTTP/1.1\r\nhost: x\r\n\r\n".encode())

    def data_received(self, data: bytes) -> None:
        if not self.polling:
            self.connected.set_result(None)
            return
        self.data += data
        if self.data.endswith(b"}") and not self.answered.done():
            self.answered.set_result(time.monotonic())

    def leave(self, how: int) -> None:
        assert self.transport is not None
        sock = self.transport.get_extra_info("socket")
        if how == 0:
            self.transport.close()
        elif how == 1:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answered.done():
            self.answered.cancel()


class Crowd:
    """The clients by number, and what they are told."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.people: dict[int, Person] = {}
        self.rounds = 0

    async def wait(self, topics: list[str], together: int = 1) -> int:
        # An address of its own for each round, so that the ports of the last one are not missed.
        self.rounds += 1
        for start in range(0, len(topics), together):
            group = topics[start : start + together]
            people = await asyncio.gather(*(self.connect() for _ in group))
            for number, (person, topic) in enumerate(zip(people, group, strict=True), start):
                person.poll(topic)
                self.people[number] = person
        # One more comes through the same door: those before it have been let in and read.
        last = await self.connect()
        last.leave(0)
        return len(self.people)

    async def connect(self) -> Person:
        local = (f"127.0.0.{self.rounds + 1}", 0)
        _, person = await asyncio.get_running_loop().create_connection(
            Person, "127.0.0.1", self.port, local_addr=local
        )
        await asyncio.wait_for(person.connected, PATIENCE)
        return person

    async def leave(self, numbers: list[int]) -> int:
        for place, number in enumerate(numbers):
            self.people.pop(number).leave(place % 3)
        return len(self.people)

    async def collect(self) -> list[Any]:
        found = []
        for number, person in self.people.items():
            moment = await asyncio.wait_for(person.answered, PATIENCE)
            head, _, body = person.data.partition(b"\r\n\r\n")
            found.append([number, int(head.split()[1]), json.loads(body).get("_id"), moment])
        return found

    async def close(self) -> int:
        for person in self.people.values():
            assert person.transport is not None
            person.transport.close()
        self.people.clear()
        return 0


async def main(port: int) -> None:
    crowd = Crowd(port)
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        command, *arguments = json.loads(line)
        print(json.dumps(await getattr(crowd, command)(*arguments)), flush=True)


class Process:
    """The crowd as a test talks to it."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.api.crowd", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __enter__(self) -> Process:
        return self

    def __exit__(self, *exception: object) -> None:
        self._process.kill()
        self._process.communicate()

    def tell(self, *command: Any) -> Any:
        """Give a command and wait for its answer."""
        self.begin(*command)
        return self.end()

    def begin(self, *command: Any) -> None:
        """Give a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """The answer to a command given before."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the crowd has died"
        return json.loads(line)


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(
        resource.RLIMIT_NOFILE, (FILES if most == resource.RLIM_INFINITY else min(FILES, most), most)
    )
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main(int(sys.argv[1])))
