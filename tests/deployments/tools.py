"""Programs that the tests of deployments need: found, or the reason why a test is skipped."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEPLOYMENTS = ROOT / "deployments"

# Some come from packages of the virtualenv, which need not be on the path.
PATH = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath), "/usr/sbin"))


def absent(reason: str) -> NoReturn:
    """Skip the test; in CI, where nothing may be absent, fail it."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def need(program: str) -> str:
    """The path of a program; without it, skip the test at home and fail it in CI."""
    return shutil.which(program, path=PATH) or absent(f"no {program} on this machine")
