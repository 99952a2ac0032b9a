"""Binding addresses and reading TLS files."""

from __future__ import annotations

import errno
import socket
import subprocess
from pathlib import Path

import pytest

from ratus.core.errors import StartupError
from ratus.server.listener import authority, bind_sockets, cannot_listen, tls_context


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_an_address_is_bound_and_does_not_listen_yet() -> None:
    port = free_port()
    (bound,) = bind_sockets("127.0.0.1", port)
    with bound:
        assert bound.getsockname() == ("127.0.0.1", port)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=5)


@pytest.mark.parametrize("bind", ["localhost", "::1", "::", ""])
def test_names_and_ipv6_are_bound(bind: str) -> None:
    if ":" in bind and not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    try:
        sockets = bind_sockets(bind, free_port())
    except StartupError as error:
        pytest.skip(f"no IPv6 on this machine: {error}")
    assert sockets
    for each in sockets:
        each.listen()
        each.close()


@pytest.mark.parametrize(
    ("bind", "remedy"),
    [
        ("192.0.2.1", "this machine has no such address; choose another --bind (BIND)"),
        ("no such host", "choose another --bind (BIND)"),
        ("a" * 300, "choose another --bind (BIND)"),
    ],
)
def test_an_address_that_cannot_be_had_is_named(bind: str, remedy: str) -> None:
    with pytest.raises(StartupError) as raised:
        bind_sockets(bind, 8000)
    assert str(raised.value).startswith(f"cannot listen on {bind}:8000: ")
    assert str(raised.value).endswith(f"; {remedy}")


def test_a_privileged_port_is_explained() -> None:
    error = cannot_listen("0.0.0.0:80", OSError(errno.EACCES, "Permission denied"))
    assert str(error) == (
        "cannot listen on 0.0.0.0:80: permission denied; "
        "ports below 1024 need privileges; choose another --port (PORT)"
    )


def test_an_ipv6_address_stands_in_brackets() -> None:
    assert (authority("::1", 80), authority("127.0.0.1", 80)) == ("[::1]:80", "127.0.0.1:80")


def test_no_certificate_is_no_tls() -> None:
    assert tls_context(None, None) is None


def test_tls_files_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pem"
    broken.write_text("nonsense")
    missing = tmp_path / "missing.pem"
    for certificate, key, named in [
        (broken, None, f"cannot use the TLS files {broken}: "),
        (missing, None, f"cannot use the TLS files {missing}: no such file or directory; "),
        (missing, broken, f"cannot use the TLS files {missing} and {broken}: "),
        (tmp_path, None, f"cannot use the TLS files {tmp_path}: "),
        (None, missing, f"the TLS key {missing} has no certificate"),
    ]:
        with pytest.raises(StartupError) as raised:
            tls_context(str(certificate) if certificate else None, str(key) if key else None)
        assert str(raised.value).startswith(named)
        assert "--tls-certfile" in str(raised.value)


def test_an_address_that_is_missing_is_passed_over_where_the_name_has_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    (bound,) = bind_sockets("name", 8000)
    with bound:
        assert bound.family == socket.AF_INET
    found[1] = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    with pytest.raises(StartupError, match="name:8000"):
        bind_sockets("name", 8000)


def test_an_encrypted_key_is_refused_without_a_question(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-passout", "pass:secret", "-subj", "/CN=x"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    with pytest.raises(StartupError, match=r"cannot use the TLS files .*key\.pem"):
        tls_context(str(cert), str(key))
