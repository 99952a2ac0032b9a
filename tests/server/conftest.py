"""What several tests of the server share."""

from __future__ import annotations

import gc
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.server.support import SilentService

EVERY_METHOD = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@pytest.fixture(params=[frozenset(), EVERY_METHOD], ids=["as-tasks", "eager"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request runs as a task of its own, and then every one as soon as it is read."""
    monkeypatch.setattr(SilentService, "eager", request.param)


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A certificate that is signed by itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    key, chain = folder / "key.pem", folder / "certificate.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    names = ("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(chain))
    subprocess.run(("openssl", "req", "-x509", *curve, *names), check=True, capture_output=True)
    return chain, key


@pytest.fixture(scope="session")
def server_tls(certificate: tuple[Path, Path]) -> ssl.SSLContext:
    """TLS for a server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    return context


@pytest.fixture(scope="session")
def client_tls() -> ssl.SSLContext:
    """TLS for a client that takes any certificate."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What only the garbage collector could find stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
