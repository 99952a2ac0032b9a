"""What a test needs and this machine does not have."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def absent(reason: str) -> NoReturn:
    """Skip the test at home, fail it in CI: there, everything has to be tried."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)
