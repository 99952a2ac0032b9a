"""What all tests share."""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest

# A shell has what it starts in the background ignore Ctrl-C, and so would every program that a test starts
# and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


# How long an example takes is a matter of the machine and of what else it does. The examples are the same in
# every run, so that a failure is one of the change that is tested; RATUS_OTHER_EXAMPLES=1 looks for new ones.
hypothesis.settings.register_profile(
    "ratus", deadline=None, derandomize="RATUS_OTHER_EXAMPLES" not in os.environ
)
hypothesis.settings.load_profile("ratus")


@pytest.fixture
def anyio_backend() -> str:
    """Tests marked ``anyio`` are coroutines and run on asyncio, each on an event loop of its own."""
    return "asyncio"
