"""Try the first minutes of a newcomer: clone, `make run`, curl, the page, Python. CI runs it.

    python scripts/check_first_minutes.py

Works on a clone of what is committed, in a folder of its own, with nothing but git, make and Python; says
how long each step took, and exits with 1 at the first that fails or takes too long.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
# From nothing to the first answer. It takes ten seconds where packages come fast.
ANSWER_SECONDS: Final = 120
STOP_SECONDS: Final = 15

PROGRAM: Final = """\
from ratus import Client, Task

with Client("{address}") as ratus:
    ratus.insert_task(Task(id="3", topic="greetings", payload={{"to": "bob"}}))

    def handle(delivery):
        print("hello,", delivery.payload["to"])
        ratus.stop()

    ratus.subscribe("greetings", handle)
"""


class Stumble(Exception):
    """Something that a newcomer would have stumbled over; the text says what."""


def environment() -> dict[str, str]:
    """What a newcomer's shell has: nothing of this project, of its tests or of its virtualenv."""
    theirs = ("PYTHON", "VIRTUAL_ENV", "MAKE", "COV", "PYTEST", "RATUS", "CI")
    return {name: value for name, value in os.environ.items() if not name.startswith(theirs)}


def ask(method: str, url: str, body: Any = None) -> tuple[int, str]:
    """One request; its status and text."""
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def expect(condition: object, text: str) -> None:
    """Raise `Stumble` unless the condition holds."""
    if not condition:
        raise Stumble(text)


@contextlib.contextmanager
def timed(what: str) -> Iterator[None]:
    """Say how long a step took."""
    began = time.monotonic()
    yield
    print(f"first minutes: {what}: {time.monotonic() - began:.1f} s", flush=True)


def wait_for_answer(address: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Return once the server answers; raises `Stumble` when it ended or took too long."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while True:
        with contextlib.suppress(OSError):
            if ask("GET", f"{address}/livez")[0] == 200:
                return
        expect(server.poll() is None, f"make run ended:\n{log.read_text()}")
        expect(time.monotonic() < deadline, f"no answer within {ANSWER_SECONDS} s:\n{log.read_text()}")
        time.sleep(0.1)


def wait_for_silence(address: str) -> None:
    """Return once the port is free again; raises `Stumble` when it is not in time."""
    deadline = time.monotonic() + STOP_SECONDS
    while time.monotonic() < deadline:
        try:
            ask("GET", f"{address}/livez")
        except OSError:
            return
        time.sleep(0.1)
    raise Stumble(f"Ctrl-C did not stop the server within {STOP_SECONDS} s")


def try_the_queue(address: str) -> None:
    """A task from beginning to end, as the README's first lines of curl."""
    topic = f"{address}/v1/topics/mail"
    expect(ask("POST", f"{topic}/tasks/1", {"payload": {"to": "ann"}})[0] == 201, "no task was inserted")
    status, text = ask("POST", f"{topic}/promises", {"timeout": "30s"})
    expect(status == 200, f"no task was claimed: {text}")
    commit = {"nonce": json.loads(text)["nonce"], "result": "sent"}
    status, text = ask("PATCH", f"{topic}/tasks/1", commit)
    expect(status == 200 and json.loads(text)["state"] == 2, f"the task was not committed: {text}")


def check() -> None:
    """All steps in turn. Raises `Stumble` or `CalledProcessError`."""
    with tempfile.TemporaryDirectory(prefix="ratus-first-minutes-") as temporary:
        clone = Path(temporary, "ratus")
        log = Path(temporary, "log")
        with timed("git clone"):
            subprocess.run(["git", "clone", "--quiet", ROOT, clone], env=environment(), check=True)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        address = f"http://127.0.0.1:{port}"
        command = ["make", "run", f"PORT={port}", f"PYTHON={shlex.quote(sys.executable)}"]
        with timed("make run, to the first answer"), log.open("wb") as output:
            # In a session of its own: Ctrl-C reaches make and what it runs.
            server = subprocess.Popen(
                command, cwd=clone, env=environment(), stdout=output, stderr=output, start_new_session=True
            )
            try:
                wait_for_answer(address, server, log)
            except BaseException:
                os.killpg(server.pid, signal.SIGKILL)
                raise
        try:
            with timed("a task from beginning to end"):
                try_the_queue(address)
            with timed("the page"):
                status, text = ask("GET", f"{address}/")
                expect(status == 200 and "<html" in text, "there is no page at /")
            with timed("push and poll from Python"):
                program = PROGRAM.format(address=address)
                python = clone / ".venv/bin/python"
                done = subprocess.run(
                    [python, "-c", program], env=environment(), capture_output=True, text=True, check=True
                )
                expect(done.stdout == "hello, bob\n", f"the program said {done.stdout!r}")
            with timed("Ctrl-C"):
                os.killpg(server.pid, signal.SIGINT)
                server.wait(STOP_SECONDS)
                wait_for_silence(address)
            said = log.read_text()
            expect("Traceback" not in said and "Error" not in said, f"the log is not clean:\n{said}")
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def main() -> int:
    """Run the check; the exit code."""
    try:
        check()
    except (Stumble, OSError, subprocess.SubprocessError) as error:
        print(f"first minutes: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
