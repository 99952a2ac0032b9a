"""What is imported from where, and how much that loads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import ratus
from ratus import app, client
from ratus.core import errors, models

ROOT = Path(__file__).parents[2]


def test_every_name_is_there_and_from_one_place() -> None:
    assert ratus.__all__ == sorted(ratus.__all__)
    for name in ratus.__all__:
        value = getattr(ratus, name)
        homes = [place for place in (errors, models, client, app) if getattr(place, name, None) is value]
        assert homes or name == "__version__", name
    assert set(client.__all__) | set(app.__all__) <= set(ratus.__all__)
    assert set(ratus.__all__) <= set(dir(ratus))
    with pytest.raises(AttributeError, match="no attribute 'Clients'"):
        ratus.Clients  # noqa: B018 - asking is the point


def test_every_error_a_server_can_answer_is_there() -> None:
    def kinds(kind: type[errors.RatusError]) -> set[str]:
        # One without a status of its own is answered as the kind that it belongs to.
        own = {kind.__name__} if "status" in vars(kind) else set()
        return own.union(*map(kinds, kind.__subclasses__()))

    assert {name for name in kinds(errors.RatusError) if hasattr(errors, name)} <= set(ratus.__all__)


def loaded_by(code: str) -> set[str]:
    """The modules that are loaded after this code, in a process of its own."""
    show = "import sys; print(*sys.modules)"
    command = [sys.executable, "-c", f"{code}\n{show}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    return set(done.stdout.split())


def test_importing_the_package_loads_nothing() -> None:
    loaded = loaded_by("import ratus")
    assert not loaded & {"pydantic", "msgspec", "httptools", "asyncio", "ratus.client", "ratus.core.models"}


@pytest.mark.parametrize("names", ["Client, AsyncClient, Task", "App, current"])
def test_clients_and_apps_load_nothing_of_the_server(names: str) -> None:
    loaded = loaded_by(f"from ratus import {names}")
    servers = (
        "ratus.api",
        "ratus.server",
        "ratus.runtime.app",
        "ratus.engine",
        "ratus.runtime.config",
        "ratus_engines",
    )
    strangers = {"uvicorn", "starlette", "prometheus_client", "uvloop", "multiprocessing", "http.server"}
    assert not [name for name in loaded if name.startswith(servers)]
    assert not loaded & strangers
