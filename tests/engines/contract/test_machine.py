"""Random operations on an engine and on the model, without a difference.

`RATUS_MACHINE_STEPS=200000` makes the long run that long, `RATUS_MACHINE_SEED` repeats one.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.engines.contract.engines import ENGINES
from tests.engines.contract.machine import Machine

STEPS = int(os.environ.get("RATUS_MACHINE_STEPS", "3000"))
SEED = int(os.environ.get("RATUS_MACHINE_SEED", "1"))
# Steps after which the long run begins anew with fresh data: differences often need a young engine, too.
ROUND = 5000
# Comparing everything takes a dozen calls of the engine, a step takes one. A difference stays, so the long
# run finds it a few steps later; the short ones, which are to shrink, find it at once.
COMPARE_EVERY = 8


async def drive(name: str, draw: Random, steps: int, compare_every: int = 1) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with ENGINES[name](Path(folder)) as make:
            machine = Machine(make, draw)
            await machine.open()
            try:
                await machine.run(steps, compare_every)
            finally:
                await machine.engine.close(machine.now)


@pytest.mark.parametrize("name", sorted(ENGINES))
@settings(
    max_examples=30,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],  # explaining a difference takes minutes
    deadline=None,  # an engine that syncs every write to a slow disk is not wrong
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(draw=st.randoms(use_true_random=False), steps=st.integers(1, 40))
def test_no_difference_to_the_model(name: str, draw: Random, steps: int) -> None:
    asyncio.run(drive(name, draw, steps))


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_no_difference_to_the_model_in_a_long_run(name: str) -> None:
    for start in range(0, STEPS, ROUND):
        asyncio.run(drive(name, Random(f"{SEED}/{start}"), min(ROUND, STEPS - start), COMPARE_EVERY))
