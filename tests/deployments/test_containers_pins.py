"""What the image installs is pinned: one version each, within our bounds, and every file by its hash."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.deployments.tools import DEPLOYMENTS, ROOT

FOLDER = DEPLOYMENTS / "docker"
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = SETTINGS["project"]
EXTRAS = PROJECT["optional-dependencies"]
# Those that a server may need.
SERVER_EXTRAS = sorted(Requirement(EXTRAS["all"][0]).extras)
WANTED = {
    "requirements.txt": PROJECT["dependencies"] + [line for name in SERVER_EXTRAS for line in EXTRAS[name]],
    "requirements-build.txt": SETTINGS["build-system"]["requires"],
}


def pins(file: Path) -> dict[str, tuple[str, list[str]]]:
    """The version and the hashes of each package of a file of pins."""
    found = {}
    text = re.sub(r"^ *#.*\n", "", file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    for line in text.replace("\\\n", " ").splitlines():
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        match = re.fullmatch(r"([a-z0-9-]+)==([\w.]+)(?: ; .*)?", requirement)
        assert match is not None, f"{file.name}: {requirement!r} is no pin"
        found[match[1]] = (match[2], hashes)
    return found


@pytest.mark.parametrize("name", sorted(WANTED))
def test_pins_are_within_the_bounds(name: str) -> None:
    pinned = pins(FOLDER / name)
    for requirement in map(Requirement, WANTED[name]):
        version, _ = pinned[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement}, but {version} is pinned: make lock"


@pytest.mark.parametrize("name", sorted(WANTED))
def test_every_file_is_known_by_its_hash(name: str) -> None:
    for package, (_, hashes) in pins(FOLDER / name).items():
        assert hashes, package
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", each) for each in hashes), package


def test_there_are_no_files_of_pins_but_these() -> None:
    assert {path.name for path in FOLDER.glob("*.txt")} == set(WANTED)
