"""What several tests of the server share."""

from __future__ import annotations

import pytest

from tests.server.support import SilentService

EVERY_METHOD = frozenset(("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"))


@pytest.fixture(params=[frozenset(), EVERY_METHOD], ids=["as-tasks", "eager"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every request runs as a task of its own, and then every one as soon as it is read."""
    monkeypatch.setattr(SilentService, "eager", request.param)
