"""Connections of the synchronous client: blocking sockets, kept and used again, safe between threads."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections import deque
from typing import Final

from ratus.calls.address import Address
from ratus.calls.connecting import Addresses
from ratus.calls.http1 import Response, ResponseReader
from ratus.calls.retrying import ClientClosed
from ratus.core.errors import TransportError

_RECEIVED: Final = 256 * 1024
"""Bytes read from a socket at once: a batch of a few hundred tasks."""

_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
"""OpenSSL's names for the error that the server's response is not TLS."""

_SENT: Final = 64 * 1024
"""Bytes sent before looking whether the server has refused the rest."""

IDLE_SECONDS: Final = 60.0
"""A connection that was idle for longer is not used again: servers, proxies and firewalls drop idle
connections silently after a minute or two."""

MAX_IDLE: Final = 32
"""Idle connections that are kept at most."""


class Interrupt:
    """Ends one waiting request from another thread, in such a way that no task is lost on the way.

    The sending half of the connection is closed. The server then answers at once, and hands out nothing any
    more; what it had handed out before still arrives. TLS knows no half-closed connections: there the whole
    connection is closed, and a claim that was on its way lapses at its deadline.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._connection: _Connection | None = None
        self._begun = False
        self._cut = False

    @property
    def begun(self) -> bool:
        """Whether `begin` or `cut` was called."""
        return self._begun

    def begin(self) -> None:
        """Ask the server to end the request. Its response, which may hold claimed tasks, can still come."""
        with self._lock:
            self._begun = True
            if self._connection is not None:
                self._connection.half_close()

    def cut(self) -> None:
        """End the connection: the request fails without its response."""
        with self._lock:
            self._begun = self._cut = True
            if self._connection is not None:
                self._connection.cut()

    def attach(self, connection: _Connection) -> None:
        """Note the connection of the request. Raises `TransportError` if the interrupt has begun already."""
        with self._lock:
            if self._begun:
                raise TransportError("interrupted", sent=False)
            self._connection = connection

    def detach(self) -> None:
        """Note that the request has ended."""
        with self._lock:
            self._connection = None


class SyncConnections:
    """Sends requests to one server and waits for their answers. Threads share it."""

    def __init__(self, address: Address, *, tls: ssl.SSLContext | None, connect_seconds: float) -> None:
        self._address = address
        self._tls = (tls or ssl.create_default_context()) if address.secure else None
        self._connect_seconds = connect_seconds
        self._addresses = Addresses(address.host, address.port)
        self._idle: deque[_Connection] = deque()
        self._process = os.getpid()
        self._closed = False

    def close(self) -> None:
        """Close the idle connections now, and those in use when their responses have arrived."""
        self._closed = True
        self._drop_idle()

    @property
    def closed(self) -> bool:
        """Whether `close` was called: every request fails from then on."""
        return self._closed

    def exchange(
        self,
        data: bytes,
        seconds: float,
        interrupt: Interrupt | None = None,
        connect_seconds: float | None = None,
    ) -> Response:
        """Send a request and return its answer, which must be whole within `seconds`.

        A connection must be made within `connect_seconds`, or the client's own limit. Raises
        `TransportError`, and nothing else.
        """
        connection = self._take(connect_seconds)
        try:
            if interrupt is not None:
                interrupt.attach(connection)
            response, reusable = connection.exchange(data, seconds)
        except BaseException:
            connection.close()
            # Whatever broke this connection may have broken the idle ones as well.
            self._drop_idle()
            raise
        finally:
            if interrupt is not None:
                interrupt.detach()
        if reusable and not self._closed and not (interrupt is not None and interrupt.begun):
            self._keep(connection)
        else:
            connection.close()
        return response

    def _drop_idle(self) -> None:
        while self._idle:
            try:
                self._idle.pop().close()
            except IndexError:  # another thread was faster
                break

    def _take(self, connect_seconds: float | None) -> _Connection:
        if self._closed:
            raise ClientClosed
        if self._process != os.getpid():
            # This process was forked; its parent goes on using the connections.
            self._idle = deque()
            self._process = os.getpid()
        oldest = time.monotonic() - IDLE_SECONDS
        while True:
            try:
                connection = self._idle.pop()
            except IndexError:
                limit = self._connect_seconds
                if connect_seconds is not None:
                    limit = min(limit, connect_seconds)
                return _Connection(self._address, self._addresses, self._tls, limit)
            if connection.idle_since >= oldest and connection.is_quiet():
                return connection
            connection.close()

    def _keep(self, connection: _Connection) -> None:
        connection.idle_since = time.monotonic()
        self._idle.append(connection)
        if len(self._idle) > MAX_IDLE:
            try:
                self._idle.popleft().close()
            except IndexError:  # other threads took all of them meanwhile
                pass


class _Connection:
    """One connection to the server."""

    def __init__(
        self, address: Address, addresses: Addresses, tls: ssl.SSLContext | None, seconds: float
    ) -> None:
        self.idle_since = 0.0
        self._address = address
        try:
            plain = addresses.connect(seconds)
        except (OSError, UnicodeError) as error:
            raise TransportError(f"cannot connect to {address}: {reason(error)}", sent=False) from error
        try:
            self._socket = plain if tls is None else tls.wrap_socket(plain, server_hostname=address.host)
        except (OSError, ValueError) as error:
            plain.close()
            raise TransportError(f"cannot connect to {address}: {reason(error)}", sent=False) from error

    def exchange(self, data: bytes, seconds: float) -> tuple[Response, bool]:
        """Send a request; return its response, and whether the connection can be used again."""
        until = time.monotonic() + seconds
        try:
            self._socket.settimeout(seconds)
            self._send(data)
            reader = ResponseReader()
            while True:
                received = self._socket.recv(_RECEIVED)
                if not received:
                    if reader.end():
                        return reader.response(), False
                    raise TransportError(f"{self._address} ended the connection before its whole answer came")
                if reader.feed(received):
                    return reader.response(), reader.reusable
                left = until - time.monotonic()
                if left <= 0:
                    raise TimeoutError
                self._socket.settimeout(left)
        except TimeoutError:
            raise TransportError(f"no whole answer from {self._address} within {seconds:g} s") from None
        except (OSError, ValueError) as error:
            raise TransportError(f"lost the connection to {self._address}: {reason(error)}") from error

    def _send(self, data: bytes) -> None:
        """Send a request. Stops once a response has come: a refusal, after which the server reads no more."""
        if len(data) <= _SENT:
            self._socket.sendall(data)
            return
        view = memoryview(data)
        for begin in range(0, len(data), _SENT):
            if begin and not self.is_quiet():
                return
            self._socket.sendall(view[begin : begin + _SENT])

    def is_quiet(self) -> bool:
        """Whether nothing is there to read: neither the end of the connection nor stray bytes."""
        try:
            if not hasattr(select, "poll"):  # Windows, and programs whose sockets eventlet has replaced
                return not select.select([self._socket], [], [], 0)[0]
            poll = select.poll()
            poll.register(self._socket, select.POLLIN)
            return not poll.poll(0)
        except (OSError, ValueError):  # closed, or a number that select cannot take: better a new connection
            return False

    def half_close(self) -> None:
        """Close the sending half of the connection; with TLS, which has no halves, the whole."""
        self._shut(socket.SHUT_RDWR if isinstance(self._socket, ssl.SSLSocket) else socket.SHUT_WR)

    def cut(self) -> None:
        """End the connection; the request of a thread that waits for its response fails."""
        self._shut(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _shut(self, how: int) -> None:
        try:
            # A TLS socket's own `shutdown` would drop its encryption while another thread reads.
            socket.socket.shutdown(self._socket, how)
        except OSError:
            pass  # the connection has ended already


def reason(error: Exception) -> str:
    """What went wrong with a connection, in the system's words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason in _NOT_TLS:
        return "it does not speak TLS; does its URL begin with http://?"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return str(error) or type(error).__name__
