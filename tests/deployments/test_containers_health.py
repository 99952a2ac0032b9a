"""The program by which the image tells how it is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.deployments.tools import DEPLOYMENTS, need
from tests.servers import free_port, launch, serving

PROGRAM = DEPLOYMENTS / "docker/healthcheck.py"
# A MongoDB that is not there: nobody listens on port 1.
WITHOUT_DATABASE = ("--engine", "mongodb", "--mongodb-uri", "mongodb://127.0.0.1:1")


def check(path: str, **environment: str) -> tuple[int, str]:
    """Run it with these variables; its exit code and what it says."""
    command = [sys.executable, "-I", str(PROGRAM), path]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    return done.returncode, done.stdout


def test_a_server_that_is_well(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        for path in ("/livez", "/readyz"):
            assert check(path, PORT=str(server.port)) == (0, f"{path} on port {server.port}: 200\n")


def test_a_server_that_is_up_but_not_ready(tmp_path: Path) -> None:
    server = launch(tmp_path, *WITHOUT_DATABASE)
    try:
        server.wait_for_log("serving on")
        assert check("/livez", PORT=str(server.port))[0] == 0
        assert check("/readyz", PORT=str(server.port)) == (1, f"/readyz on port {server.port}: 503\n")
    finally:
        server.stop()


def test_nobody_there() -> None:
    port = free_port()
    code, said = check("/livez", PORT=str(port))
    assert code == 1
    assert said.startswith(f"/livez on port {port}: ")


def test_an_instance_without_a_port_has_nobody_to_ask() -> None:
    assert check("/livez", PORT="0") == (0, "")


def test_a_server_with_tls(tmp_path: Path) -> None:
    """It asks on the loopback, which no certificate names."""
    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    command = [need("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1"]
    command += ["-subj", "/CN=elsewhere.example"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    server = launch(tmp_path, "--tls-certfile", str(certificate), "--tls-keyfile", str(key))
    try:
        server.wait_for_log("serving on")
        assert check("/livez", PORT=str(server.port), TLS_CERTFILE=str(certificate))[0] == 0
        code, said = check("/livez", PORT=str(server.port))
        assert code == 1, said
    finally:
        server.stop()
