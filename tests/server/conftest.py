"""What several tests of the server share."""

from __future__ import annotations

import gc
import ssl
import subprocess
from collections.abc import Iterator

import pytest

from tests.server.support import SilentService

EVERY_METHOD = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@pytest.fixture(params=[frozenset(), EVERY_METHOD], ids=["as-tasks", "eager"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request runs as a task of its own, and then every one as soon as it is read."""
    monkeypatch.setattr(SilentService, "eager", request.param)


@pytest.fixture(scope="session")
def server_tls(tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """TLS for a server, with a certificate that is signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1")
    names = ("-subj", "/CN=localhost", "-keyout", str(key), "-out", str(certificate))
    subprocess.run(("openssl", "req", "-x509", *curve, *names), check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context


@pytest.fixture
def no_collector() -> Iterator[None]:
    """What only the garbage collector could find stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
