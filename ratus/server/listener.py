"""Binding an address and reading TLS files, with errors that tell an operator what to do."""

from __future__ import annotations

import errno
import ipaddress
import socket
import ssl

from ratus.core.errors import StartupError

# What the operator can do about the usual reasons why an address cannot be bound.
REMEDIES = {
    errno.EADDRINUSE: "stop the program that holds it, or choose another --port (PORT)",
    errno.EACCES: "ports below 1024 need privileges; choose another --port (PORT)",
    errno.EADDRNOTAVAIL: "this machine has no such address; choose another --bind (BIND)",
}


def bind_sockets(bind: str, port: int) -> list[socket.socket]:
    """Bind ``port`` on every address that ``bind`` stands for; nothing listens yet.

    An empty ``bind`` means all addresses of both families. Raises StartupError with one line that names the
    address and what to do.
    """
    try:
        found = socket.getaddrinfo(bind or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise StartupError(
            f"cannot listen on {authority(bind, port)}: {reason}; choose another --bind (BIND)"
        ) from error
    sockets: list[socket.socket] = []
    missing: OSError | None = None
    # A name may stand for an address of each family. "::" alone takes IPv4 as well, where the system says so.
    several = len({family for family, *_ in found}) > 1
    for family, kind, protocol, _, address in dict.fromkeys(found):
        try:
            sockets.append(_bind(family, kind, protocol, address, only_ipv6=several))
        except OSError as error:
            if several and error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                # A machine without IPv6 still knows "localhost" as ::1.
                missing = error
                continue
            _close(sockets)
            raise cannot_listen(authority(bind, port), error) from error
    if missing is not None and not sockets:
        raise cannot_listen(authority(bind, port), missing) from missing
    return sockets


def is_loopback(bind: str) -> bool:
    """Whether this address can be reached from this machine alone.

    A name other than ``localhost`` is assumed to be reachable from others.
    """
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind.lower().rstrip(".") == "localhost"


def _bind(
    family: int, kind: int, protocol: int, address: tuple[object, ...], *, only_ipv6: bool
) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6 and only_ipv6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except OSError:
        bound.close()
        raise
    return bound


def _close(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def cannot_listen(where: str, error: OSError) -> StartupError:
    """The error for an address that cannot be bound, with one line for the operator."""
    reason = errno_text(error)
    remedy = REMEDIES.get(error.errno or 0, "choose another --bind (BIND) or --port (PORT)")
    return StartupError(f"cannot listen on {where}: {reason}; {remedy}")


def errno_text(error: OSError) -> str:
    """The system's words for ``error``, without the number and the address that Python adds."""
    return (error.strerror or str(error)).lower()


def authority(host: str, port: int) -> str:
    """``host:port`` as in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def tls_context(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """The TLS settings of a server with this certificate, or None without one.

    ``keyfile`` may be left out when the key stands in ``certfile``. Raises StartupError with one line that
    names the files and what to do.
    """
    if certfile is None:
        if keyfile is not None:
            raise StartupError(f"the TLS key {keyfile} has no certificate; give --tls-certfile too")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.set_alpn_protocols(["http/1.1"])
    files = certfile if keyfile is None else f"{certfile} and {keyfile}"
    try:
        # With an encrypted key OpenSSL would otherwise ask for a password on the terminal.
        context.load_cert_chain(certfile, keyfile, password=_no_password)
    except OSError as error:
        reason = error.reason if isinstance(error, ssl.SSLError) else errno_text(error)
        raise StartupError(
            f"cannot use the TLS files {files}: {reason or 'not a PEM certificate with its key'}; "
            "check --tls-certfile and --tls-keyfile"
        ) from error
    return context


def _no_password() -> str:
    return ""
