"""The version is written in one place, and the changelog knows it."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

from ratus import __version__

ROOT = Path(__file__).resolve().parents[1]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def versions() -> list[tuple[str, str]]:
    """The versions of the changelog, newest first, each with its date or the word unreleased."""
    headings = re.findall(r"^## (.*)$", CHANGELOG, re.MULTILINE)
    found = []
    for heading in headings:
        match = re.fullmatch(r"\[(\d+\.\d+\.\d+)\] - (\d{4}-\d\d-\d\d|unreleased)", heading)
        assert match, f"{heading!r} is not of the form [1.2.3] - 2026-01-31, or [1.2.3] - unreleased"
        found.append((match[1], match[2]))
    return found


def test_the_top_of_the_changelog_is_this_version() -> None:
    assert versions()[0][0] == __version__


def test_versions_and_dates_fall_and_only_the_top_may_be_unreleased() -> None:
    numbers = [tuple(map(int, version.split("."))) for version, _ in versions()]
    assert numbers == sorted(set(numbers), reverse=True)
    dates = [date for _, date in versions()]
    assert "unreleased" not in dates[1:]
    released = [date for date in dates if date != "unreleased"]
    assert released == sorted(released, reverse=True)


def test_changes_are_sorted_by_kind() -> None:
    kinds = re.findall(r"^### (.*)$", CHANGELOG, re.MULTILINE)
    assert kinds
    assert set(kinds) <= KINDS


def test_the_version_is_written_once() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["dynamic"] == ["version"]
    assert project["tool"]["hatch"]["version"]["path"] == "ratus/__init__.py"
    # Made from it, and committed.
    specification = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))
    assert specification["info"]["version"] == __version__
