"""Ask the server of this container for a probe: `healthcheck.py /readyz`; exit code 0 when it answers 200.

It finds the server by the variables that the server reads, so give PORT and TLS_CERTFILE as variables, not
as flags. An instance that only does chores (PORT=0) has nobody to ask, and passes. It imports little, since
it is started every few seconds.
"""

import os
import socket
import sys

# Less than the timeout of the health check, so that the reason is seen.
PATIENCE_SECONDS = 4.0


def status(port: int, secure: bool, path: str) -> int:
    """The status of the answer. Raises ``OSError`` without one, and ``ValueError`` when it is not HTTP."""
    connection = socket.create_connection(("127.0.0.1", port), PATIENCE_SECONDS)
    if secure:
        import ssl

        # The certificate names the outside of the container, and nobody stands between a process and itself.
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        connection = context.wrap_socket(connection)
    with connection:
        connection.sendall(f"GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".encode())
        # The status line comes in one piece with the headers; the server writes them at once.
        version, code = connection.recv(4096).split(b" ", 2)[:2]
        if not version.startswith(b"HTTP/"):
            raise ValueError(f"{version!r} is not HTTP")
        return int(code)


def main(path: str) -> int:
    """Ask, and return the exit code."""
    port = int(os.environ.get("PORT") or 80)
    if port == 0:
        return 0
    try:
        answered = status(port, bool(os.environ.get("TLS_CERTFILE")), path)
    except (OSError, ValueError) as error:
        print(f"{path} on port {port}: {error}")
        return 1
    print(f"{path} on port {port}: {answered}")
    return int(answered != 200)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
