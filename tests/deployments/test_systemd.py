"""The unit for systemd: systemd itself reads it, and it is true of the server."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from ratus.cli import EXIT_USAGE
from ratus.runtime import config
from ratus.server.connection_limits import ConnectionLimits
from tests.deployments.settings import VARIABLES, seconds
from tests.deployments.tools import DEPLOYMENTS, need

UNIT = DEPLOYMENTS / "systemd/ratus.service"
TEXT = UNIT.read_text(encoding="utf-8")
# In tenths, as systemd counts: 0 is sealed, 100 open to everybody. Without the hardening it is 92.
MOST_EXPOSED = 15


def values(name: str) -> list[str]:
    """What the unit says to a name, line by line."""
    return re.findall(rf"^{name}=(.*)$", TEXT, re.MULTILINE)


@pytest.fixture
def unit(tmp_path: Path) -> Path:
    """The unit, with a program that exists in the place of the one that an administrator installs."""
    copy = tmp_path / UNIT.name
    copy.write_text(TEXT.replace("/opt/ratus/bin/ratus", need("true")))
    return copy


def test_systemd_has_nothing_to_say(unit: Path) -> None:
    command = [need("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_mistake_would_be_noticed(unit: Path) -> None:
    unit.write_text(unit.read_text().replace("TimeoutStopSec=", "TimeoutStop="))
    command = [need("systemd-analyze"), "verify", "--man=no", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "TimeoutStop" in done.stderr


def test_it_is_hardened(unit: Path) -> None:
    command = [
        need("systemd-analyze"),
        "security",
        "--offline=true",
        f"--threshold={MOST_EXPOSED}",
        str(unit),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_it_sets_what_the_server_knows() -> None:
    variables = dict(each.split("=", 1) for line in values("Environment") for each in line.split())
    assert set(variables) <= VARIABLES
    settings = config.parse([], variables)
    assert settings.bind == "127.0.0.1"
    [folder] = values("WorkingDirectory")
    [name] = values("StateDirectory")
    assert folder == f"/var/lib/{name}"
    for variable in ("SQLITE_PATH", "MEMDB_SNAPSHOT_PATH"):
        assert variables[variable].startswith(f"{folder}/")


def test_there_is_time_to_stop() -> None:
    [timeout] = values("TimeoutStopSec")
    assert seconds(timeout) >= ConnectionLimits().body_seconds + 60
    [bound] = re.findall(r"SHUTDOWN_TIMEOUT=(\S+)", TEXT)
    assert seconds(timeout) > seconds(bound)  # the log says what hangs before the process is killed


def test_a_wrong_setting_is_not_tried_again() -> None:
    assert values("RestartPreventExitStatus") == [str(EXIT_USAGE)]


def test_no_name_is_given_twice_by_mistake() -> None:
    """systemd takes the last one, or adds them up; only of these more than one is meant."""
    names = [line.split("=")[0] for line in TEXT.splitlines() if re.match(r"[A-Z]\w+=", line)]
    assert {name for name in names if names.count(name) > 1} == {"Environment", "SystemCallFilter"}
