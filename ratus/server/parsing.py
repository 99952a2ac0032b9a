"""Feeds bytes to the HTTP parser (llhttp, through httptools), and handles two things that llhttp does not.

- A request that asks for an upgrade (``Upgrade: h2c``): llhttp stops behind its head. The head is parsed
  again without the upgrade, so that the request is answered as any other.
- A request target that holds raw UTF-8 (`raw_targets`): llhttp refuses it.

`ratus.server.protocol` calls ``_feed_part`` with what the socket received; the parser calls ``on_url`` here
and the other ``on_...`` methods there.
"""

from __future__ import annotations

import asyncio

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from ratus.server.heads import without_upgrade
from ratus.server.raw_targets import feed_raw
from ratus.server.request_response_cycle import RequestResponseCycle
from ratus.server.state import ServingState


class ParsingProtocol(HttpToolsProtocol):
    """The base of ``HTTPProtocol`` that feeds the parser. It is the ``Reader`` that ``feed_raw`` works on."""

    def __init__(self, config: Config, state: ServingState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        # A parser and its connection refer to each other; ``connection_lost`` separates them. After a TLS
        # handshake that failed, asyncio calls neither ``connection_made`` nor ``connection_lost``, so the
        # parser is not made here but with the first of them.
        self.parser = None  # type: ignore[assignment]  # as in the base, when the connection is lost
        # Whether a part of a request's head has been read, but not all of it.
        self._head_open = False
        # The request whose body is being read.
        self._receiving: RequestResponseCycle | None = None
        # How many bytes the parser was given in the last call of ``_feed_part``.
        self._chunk_size = 0
        # The first bytes of a UTF-8 sequence in a target whose other bytes have not arrived yet.
        self._held = b""
        # Set by ``on_url`` for ``within_target``.
        self._within_target = False

    def _new_parser(self) -> None:
        self.url, self.headers = b"", []
        self.parser = httptools.HttpRequestParser(self)
        # What a client sends behind a request with ``Connection: close`` is ignored, as uvicorn has it.
        # Without this the parser would refuse it as an error.
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _feed_part(self, data: bytes | memoryview) -> None:
        """Parse the next bytes of the connection. Raises httptools.HttpParserError for what is not HTTP."""
        self._chunk_size = 0
        # The slower path is for bytes outside of ASCII that are not all in the body that is being read.
        if self._held or (self.missing() < len(data) and not bytes(data).isascii()):
            part, self._held = self._held + bytes(data), b""
            self._held = feed_raw(self, part, self._head_open)
        else:
            self.feed(data)

    def feed(self, data: bytes | memoryview) -> None:
        """See ``Reader.feed``."""
        # Counted as the parser gets them: a raw target is limited by its percent-encoded length, so that it
        # has the same limit as one that a client encodes itself.
        self._chunk_size += len(data)
        plain = b""  # the same head without the upgrade
        while True:
            try:
                if plain:
                    self.parser.feed_data(plain)
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser skips the body of such a request, and has no setting that turns upgrades off. So
                # a new one gets the head without the upgrade, then what followed the head.
                version, method = self.parser.get_http_version(), self.parser.get_method()
                plain = without_upgrade(method, self.url, version, self.headers)
                data = memoryview(data)[upgrade.args[0] :]
                self._new_parser()

    def within_target(self) -> bool:
        """See ``Reader.within_target``. Fed with no bytes, the parser calls ``on_url`` only within a
        target."""
        self._within_target = False
        if self._head_open:
            self.parser.feed_data(b"")
        return self._within_target

    def missing(self) -> int:
        """See ``Reader.missing``."""
        return 0 if self._receiving is None else self._receiving.missing()

    def on_url(self, url: bytes) -> None:
        """Called by the parser with a part of the target, or with no bytes for ``within_target``."""
        if url:
            self.url += url
        else:
            self._within_target = True
