"""How the parser is fed, so that it reads what llhttp alone does not: requests for upgrades, raw targets."""

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
    """What ``HTTPProtocol`` has of this; a ``Reader`` of what may hold raw targets."""

    def __init__(self, config: Config, state: ServingState, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(config, state, {}, loop)
        # The parser holds the connection by its callbacks. One whose TLS handshake fails is never made, hence
        # never lost, and would keep itself alive.
        self.parser = None  # type: ignore[assignment]  # as in the base, when the connection is lost
        # What is being read: a head, or the body of a request.
        self._head_open = False
        self._receiving: RequestResponseCycle | None = None
        # How many bytes the parser was given in the last call of ``_feed_part``.
        self._chunk_size = 0
        # The beginning of a UTF-8 sequence in a target, and the parser's answer to ``within_target``.
        self._held = b""
        self._within_target = False

    def _new_parser(self) -> None:
        self.url, self.headers = b"", []
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)

    def _feed_part(self, data: bytes | memoryview) -> None:
        """Parse a part of what came. Raises httptools.HttpParserError for what the parser refuses."""
        self._chunk_size = 0
        if self._held or (self.missing() < len(data) and not bytes(data).isascii()):
            part, self._held = self._held + bytes(data), b""
            self._held = feed_raw(self, part, self._head_open)
        else:
            self.feed(data)

    def feed(self, data: bytes | memoryview) -> None:
        """See ``Reader.feed``."""
        # A raw target is measured as it is fed: percent-encoded, as other clients send it.
        self._chunk_size += len(data)
        plain = b""
        while True:
            try:
                if plain:
                    self.parser.feed_data(plain)
                self.parser.feed_data(data)
                return
            except httptools.HttpParserUpgrade as upgrade:
                # The parser leaves out the body of such a request, and cannot be told that no upgrade will
                # happen.
                version, method = self.parser.get_http_version(), self.parser.get_method()
                plain = without_upgrade(method, self.url, version, self.headers)
                data = memoryview(data)[upgrade.args[0] :]
                self._new_parser()

    def within_target(self) -> bool:
        """See ``Reader.within_target``: within a target, the parser reports even a part that has no bytes."""
        self._within_target = False
        if self._head_open:
            self.parser.feed_data(b"")
        return self._within_target

    def missing(self) -> int:
        """See ``Reader.missing``."""
        return 0 if self._receiving is None else self._receiving.missing()

    def on_url(self, url: bytes) -> None:
        """A part of the target."""
        if url:
            self.url += url
        else:
            self._within_target = True
