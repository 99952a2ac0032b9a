"""One container engine, with one build of the image, for all processes that run tests at the same time."""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deployments.engine import Engine, require
from tests.engines.mongodb.servers import fast_place


@pytest.fixture(scope="session")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The engine, with the image of the Dockerfile. Who comes first builds it, who goes last removes it."""
    require()
    place = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        # The folder that the workers of one run have in common.
        place = place.parent
    noted = place / "container-engine"
    with (place / "engine-users.lock").open("w") as users:
        with _alone(place):
            if not noted.exists():
                # Not below `place`: sockets want short paths.
                noted.write_text(tempfile.mkdtemp(prefix="ratus-", dir=fast_place()))
            made = Engine(Path(noted.read_text()))
            made.build_ratus()
            fcntl.flock(users, fcntl.LOCK_SH)
        try:
            yield made
        finally:
            # Refused while another process uses it.
            with _alone(place), contextlib.suppress(BlockingIOError):
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
                noted.unlink()
                made.remove()


@contextlib.contextmanager
def _alone(place: Path) -> Iterator[None]:
    """No other process builds or removes the engine until the block ends."""
    with (place / "engine-build.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
