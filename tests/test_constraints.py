"""What `make` installs is pinned: every package that the project asks for, within its bounds."""

from __future__ import annotations

import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent


def test_all_that_the_project_asks_for_is_pinned_within_its_bounds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extras = settings["project"]["optional-dependencies"]
    wanted = [
        *settings["project"]["dependencies"],
        *chain(*(lines for name, lines in extras.items() if name != "all")),
        *chain(*settings["dependency-groups"].values()),
    ]
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if not line.lstrip().startswith("#"):
            pin = Requirement(line)
            assert [each.operator for each in pin.specifier] == ["=="], line
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for requirement in map(Requirement, wanted):
        for pin in pins[canonicalize_name(requirement.name)]:
            version = next(iter(pin.specifier)).version
            assert requirement.specifier.contains(version), f"{requirement}, but {pin}: make lock"
