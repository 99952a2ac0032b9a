"""Connects to a host name: tries its addresses one after the other, first the one that was reached last.

A name may have an address that never responds, such as one of IPv6 in a network that does not carry IPv6.
Each address gets its share of the time, so that the next ones are tried as well.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any, Final, TypeAlias

AddressInfo: TypeAlias = tuple[int, int, int, str, Any]
"""As `socket.getaddrinfo` gives it: family, type, protocol, name and address."""

_LEAST: Final = 0.001
"""The shortest time-out in seconds; a socket with a time-out of 0 would not block at all."""


class Addresses:
    """The addresses of one host and port, and which of them was reached last."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._reached: Any = None

    def connect(self, seconds: float) -> socket.socket:
        """A socket that was connected within `seconds`.

        Raises `OSError`, that of the last address, or `UnicodeError` for a name that cannot be encoded.
        """
        until = time.monotonic() + seconds
        found: Any = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        problem: OSError = _no_address()
        for (family, kind, protocol, _, address), share in self._shares(found, until):
            connection = _socket(family, kind, protocol)
            try:
                connection.settimeout(share)
                connection.connect(address)
            except OSError as error:
                connection.close()
                problem = error
            else:
                connection.settimeout(max(until - time.monotonic(), _LEAST))
                self._reached = address
                return connection
        raise problem

    async def connect_async(self, loop: asyncio.AbstractEventLoop, seconds: float) -> socket.socket:
        """As `connect`, without blocking the event loop; the socket does not block either."""
        until = time.monotonic() + seconds
        found: Any = await loop.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        problem: OSError = _no_address()
        for (family, kind, protocol, _, address), share in self._shares(found, until):
            connection = _socket(family, kind, protocol)
            connection.setblocking(False)
            try:
                async with asyncio.timeout(share):
                    await loop.sock_connect(connection, address)
            except OSError as error:  # a TimeoutError is one
                connection.close()
                problem = error
            except BaseException:
                connection.close()
                raise
            else:
                self._reached = address
                return connection
        raise problem

    def _shares(self, found: list[AddressInfo], until: float) -> Iterator[tuple[AddressInfo, float]]:
        """Each address with the seconds it gets: what is left, divided by how many are left."""
        ordered = sorted(found, key=lambda info: info[4] != self._reached)
        for place, info in enumerate(ordered):
            left = until - time.monotonic()
            yield info, max(left / (len(ordered) - place), _LEAST)


def _socket(family: int, kind: int, protocol: int) -> socket.socket:
    connection = socket.socket(family, kind, protocol)
    # A request is written in one go, and must not wait for more to come.
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def _no_address() -> OSError:
    return OSError("the name has no address")
