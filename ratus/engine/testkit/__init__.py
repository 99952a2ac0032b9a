"""The test kit for engines: the contract suite, and a machine that makes random steps.

A test file of an engine's package says how the engine is made, and runs all of it:

    from ratus.engine.testkit import EngineContract, MakeEngine

    class TestMyEngine(EngineContract):
        @asynccontextmanager
        async def engines(self, folder: Path) -> AsyncIterator[MakeEngine]:
            yield partial(MyEngine, path=str(folder / "my.data"))

- `EngineContract`: the suite, to be derived from.
- `MakeEngine`: a function that constructs an engine; all engines of one such function share their data.
- `Harness`: an open engine with a clock that the test sets, for an engine's own tests.
- `RecordingListener`, `CountingObserver`: what an engine notifies, for the same tests.
- `RandomMachine`, `Model`: random steps on an engine, compared with the queue written as simply as possible.

It needs pytest and Hypothesis: ``pip install 'ratus-queue[testkit]'``. Raises `ImportError` without them.
"""

try:
    import anyio
    import hypothesis
    import pytest
except ModuleNotFoundError as missing:
    raise ImportError(
        f"ratus.engine.testkit needs {missing.name}, which is not installed: "
        "run pip install 'ratus-queue[testkit]'"
    ) from missing

del anyio, hypothesis

# Failures show the values that were compared, as in a test file. Has to come before the modules are imported.
pytest.register_assert_rewrite(
    "ratus.engine.testkit.contract", "ratus.engine.testkit.harness", "ratus.engine.testkit.machine"
)

from ratus.engine.testkit.harness import (  # noqa: E402 - see above
    CountingObserver,
    Harness,
    MakeEngine,
    RecordingListener,
)
from ratus.engine.testkit.machine import RandomMachine  # noqa: E402
from ratus.engine.testkit.model import Model  # noqa: E402
from ratus.engine.testkit.suite import EngineContract  # noqa: E402

__all__ = [
    "CountingObserver",
    "EngineContract",
    "Harness",
    "MakeEngine",
    "Model",
    "RandomMachine",
    "RecordingListener",
]
