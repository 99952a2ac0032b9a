"""What all classes of the contract suite share: how an engine is made, and the fixture with an open one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from ratus.engine.testkit.harness import Harness, MakeEngine


class EngineTests:
    """Tests that run on one engine. A subclass says how the engine is made."""

    # The tests are coroutines, which the plugin of anyio runs.
    pytestmark = pytest.mark.anyio

    def engines(self, folder: Path) -> AbstractAsyncContextManager[MakeEngine]:
        """A context that yields a function that makes engines. To be overridden.

        All engines that are made for one folder work on the same data, those of another process included.
        The data is fresh when the folder is empty, and no longer needed when the context ends. Where the
        engine needs a server that is not there, this may call `pytest.skip`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} does not say how its engine is made: override engines()"
        )

    @pytest.fixture
    def anyio_backend(self) -> str:
        """Engines run on asyncio."""
        return "asyncio"

    @pytest.fixture
    async def harness(self, tmp_path: Path) -> AsyncIterator[Harness]:
        """An open engine on fresh data."""
        async with self.engines(tmp_path) as make:
            harness = Harness(make)
            harness.engine = await harness.start()
            try:
                yield harness
            finally:
                await harness.end()
