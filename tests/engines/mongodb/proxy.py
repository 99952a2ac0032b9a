"""A proxy between the engine and a MongoDB, which refuses commands or loses their answers as a test wants it.

It understands as much of the wire protocol as that takes: requests in `OP_MSG`, whose first section is the
command, and answers that name the request they belong to.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from enum import Enum
from typing import Any

import bson
from bson.codec_options import CodecOptions, DatetimeConversion
from pymongo import uri_parser

# Python's own dates end sooner than those of BSON.
_ANY_DATE: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_MS)

_HEADER = struct.Struct("<iiii")
_OP_MSG = 2013


class Fate(Enum):
    """What becomes of a command."""

    PASS = "it is carried out and answered"
    LOSE = "it is carried out, and the connection breaks before the answer"
    CUT = "the connection breaks before it arrives"


Command = dict[str, Any]
Rule = Callable[[Command], Fate | dict[str, Any]]
"""Decides on each command; a dictionary is the answer itself."""


def refusal(code: int, message: str) -> dict[str, Any]:
    """The answer to a command that the database refuses."""
    return {"ok": 0.0, "code": code, "codeName": "Refused", "errmsg": message}


class Proxy:
    """``rule`` may be changed at any time; ``seen`` are the commands so far."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self.rule: Rule = lambda command: Fate.PASS
        self.seen: list[Command] = []

    @property
    def uri(self) -> str:
        assert self._server is not None
        port = self._server.sockets[0].getsockname()[1]
        return f"mongodb://127.0.0.1:{port}/?directConnection=true"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def stop(self) -> None:
        """Close the port and every connection."""
        assert self._server is not None
        self._server.close()
        for writer in list(self._writers):
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            upstream, upstream_writer = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        self._writers.add(upstream_writer)
        lost: set[int] = set()
        answers = asyncio.create_task(self._answers(upstream, writer, lost))
        try:
            while True:
                message = await _message(reader)
                request = _HEADER.unpack_from(message)[1]
                fate = self._decide(message)
                if fate is Fate.CUT:
                    break
                if isinstance(fate, dict):
                    writer.write(_answer(request, fate))
                    continue
                if fate is Fate.LOSE:
                    lost.add(request)
                upstream_writer.write(message)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            answers.cancel()
            for each in (writer, upstream_writer):
                each.close()
                self._writers.discard(each)
            with contextlib.suppress(asyncio.CancelledError):
                await answers

    async def _answers(
        self, upstream: asyncio.StreamReader, writer: asyncio.StreamWriter, lost: set[int]
    ) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                message = await _message(upstream)
                if _HEADER.unpack_from(message)[2] in lost:
                    break
                writer.write(message)
        writer.close()

    def _decide(self, message: bytes) -> Fate | dict[str, Any]:
        command = _command(message)
        if command is None:
            return Fate.PASS
        self.seen.append(command)
        return self.rule(command)


async def _message(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readexactly(_HEADER.size)
    return header + await reader.readexactly(_HEADER.unpack(header)[0] - _HEADER.size)


def _command(message: bytes) -> Command | None:
    """The command in a request, with what travels beside it: the parts of a bulk write."""
    if _HEADER.unpack_from(message)[3] != _OP_MSG:
        return None
    at = _HEADER.size + 4
    command: Command = {}
    while at < len(message):
        kind, at = message[at], at + 1
        (length,) = struct.unpack_from("<i", message, at)
        part = message[at : at + length]
        if kind == 0:
            command = {**bson.decode(part, _ANY_DATE), **command}
        else:
            end = part.index(0, 4)
            name, rest = part[4:end].decode(), part[end + 1 :]
            command[name] = bson.decode_all(rest, _ANY_DATE)
        at += length
    return command


def _answer(request: int, document: dict[str, Any]) -> bytes:
    body = b"\0\0\0\0\0" + bson.encode(document)
    return _HEADER.pack(_HEADER.size + len(body), 0, request, _OP_MSG) + body


@asynccontextmanager
async def proxy(uri: str) -> AsyncIterator[Proxy]:
    """A proxy to the first host of a URI."""
    made = Proxy(uri_parser.parse_uri(uri)["nodelist"][0])
    await made.start()
    try:
        yield made
    finally:
        await made.stop()


def times(count: int, condition: Callable[[Command], bool], fate: Fate | dict[str, Any]) -> Rule:
    """The first so many commands for which the condition holds have this fate, all others pass."""
    left = count

    def rule(command: Command) -> Fate | dict[str, Any]:
        nonlocal left
        if left and condition(command):
            left -= 1
            return fate
        return Fate.PASS

    return rule


def is_claim(command: Command) -> bool:
    """Whether the command makes a task active, alone or in a bulk write."""
    updates = [command.get("update"), *[u["u"] for u in command.get("updates", ())]]
    return any(isinstance(update, dict) and update.get("$set", {}).get("state") == 1 for update in updates)


def name_of(command: Command) -> str:
    """What the command is called."""
    return next(iter(command))
