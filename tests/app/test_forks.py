"""A fork after the app was used, as by gunicorn with `--preload`: the child pushes and waits by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ratus.testing import RatusServer
from tests.app.support import PATIENCE

PROGRAM = """
import os, sys, threading, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of forks beside threads
from ratus import App

app = App(sys.argv[1])

@app.task(name="double")
def double(n: int) -> int:
    return 2 * n

def use(number):
    done = threading.Event()
    job = double.push(number)
    job.add_done_callback(lambda job: done.set())
    assert job.result("60s") == 2 * number
    assert done.wait(60)

with app.worker():
    use(1)
    children = []
    for number in range(2, 5):
        child = os.fork()
        if not child:
            code = 1
            try:
                use(number)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    use(5)
print(codes)
"""


def test_forked_children_have_threads_and_connections_of_their_own(live: RatusServer) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, live.url],
        capture_output=True,
        text=True,
        timeout=2 * PATIENCE,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[0, 0, 0]\n"
