"""Random steps on an engine and on the model, without a difference."""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from random import Random
from typing import ClassVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from ratus.engine.testkit.base import EngineTests
from ratus.engine.testkit.machine import RandomMachine

# Steps after which the long run begins anew with fresh data: some differences only show on a new engine.
ROUND = 5000
# Comparing everything takes a dozen calls of the engine, a step takes one. A difference stays, so the long
# run finds it a few steps later; the short ones, which are to shrink, find it at once.
COMPARE_EVERY = 8


class RandomStepsTests(EngineTests):
    """Random steps on an engine and on the model, without a difference."""

    machine_steps: ClassVar[int] = int(os.environ.get("RATUS_MACHINE_STEPS", "3000"))
    """How many steps the long run makes."""

    machine_seed: ClassVar[int] = int(os.environ.get("RATUS_MACHINE_SEED", "1"))
    """The seed of the long run; the same seed gives the same steps."""

    @settings(
        max_examples=30,
        phases=[Phase.reuse, Phase.generate, Phase.shrink],  # explaining a difference takes minutes
        deadline=None,  # an engine that syncs every write to a slow disk is not wrong
        suppress_health_check=[
            HealthCheck.too_slow,
            HealthCheck.data_too_large,
            HealthCheck.differing_executors,  # every engine's class inherits this test
        ],
    )
    @given(draw=st.randoms(use_true_random=False), steps=st.integers(1, 40))
    def test_no_difference_to_the_model(self, draw: Random, steps: int) -> None:
        asyncio.run(self._drive(draw, steps))

    def test_no_difference_to_the_model_in_a_long_run(self) -> None:
        for start in range(0, self.machine_steps, ROUND):
            draw = Random(f"{self.machine_seed}/{start}")
            asyncio.run(self._drive(draw, min(ROUND, self.machine_steps - start), COMPARE_EVERY))

    async def _drive(self, draw: Random, steps: int, compare_every: int = 1) -> None:
        """Make this many steps on fresh data."""
        with tempfile.TemporaryDirectory() as folder:
            async with self.engines(Path(folder)) as make:
                machine = RandomMachine(make, draw)
                await machine.open()
                try:
                    await machine.run(steps, compare_every)
                finally:
                    await machine.engine.close(machine.now)
