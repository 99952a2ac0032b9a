"""The fixture of the contract suite: every test runs against every engine."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.engines.contract.desk import Desk
from tests.engines.contract.engines import ENGINES


@pytest.fixture(params=sorted(ENGINES))
async def desk(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Desk]:
    """A desk with an open engine on fresh data."""
    async with ENGINES[request.param](tmp_path) as make:
        desk = Desk(request.param, make)
        desk.engine = await desk.start()
        try:
            yield desk
        finally:
            await desk.end()
