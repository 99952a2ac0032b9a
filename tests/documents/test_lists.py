"""What documents list is what is there: tree, decisions, dependencies, settings, targets of make."""

from __future__ import annotations

import re
import tomllib

import pytest

from ratus.commands import worker
from ratus.runtime import config
from tests.documents.pages import GENERATED, NAMES, ROOT, blocks_of, prose, read

EXAMPLE = "examples/engine/ratus_engine_journal/__init__.py"


@pytest.fixture(params=NAMES)
def document(request: pytest.FixtureRequest) -> str:
    """Each document of the repository in turn."""
    return str(request.param)


def test_documents_name_only_targets_of_the_makefile(document: str) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|[A-Z]=\S+ )make ([a-z-]+)", read(document), re.MULTILINE))
    assert named <= targets


def test_the_readme_maps_what_is_there() -> None:
    _, _, rest = read("README.md").partition("## Map of the tree")
    named: set[str] = set()
    folders: list[tuple[int, str]] = []
    for line in blocks_of(rest, "README.md")[0].text.splitlines():
        match = re.match(r"( *)(\S+)(?: {2,}\S.*)?$", line)
        assert match is not None, f"unreadable: {line!r}"
        while folders and folders[-1][0] >= len(match[1]):
            folders.pop()
        path = "".join(folder for _, folder in folders) + match[2]
        assert (ROOT / path).exists(), f"{path} does not exist"
        assert (ROOT / path).is_dir() == path.endswith("/"), (
            f"{path}: a folder ends with a slash, a file does not"
        )
        named.add(path)
        folders.append((len(match[1]), match[2]))
    folders_there = {
        f"{path.name}/"
        for path in ROOT.iterdir()
        if path.is_dir() and any(path.iterdir()) and path.name not in GENERATED and path.name[0] != "."
    }
    assert folders_there <= named, f"not on the map: {sorted(folders_there - named)}"


def test_every_decision_is_in_the_index() -> None:
    folder = ROOT / "docs/decisions"
    records = sorted(path.name for path in folder.glob("[0-9]*.md"))
    index = read("docs/decisions/README.md")
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", index, re.MULTILINE) == records
    for record in records:
        text = (folder / record).read_text(encoding="utf-8")
        assert text.startswith(f"# {record[:4]}: "), f"{record}: its title begins with its number"
        assert re.search(r"^Status: (proposed|accepted|replaced by \d{4})$", text, re.MULTILINE), record


# --- dependencies -------------------------------------------------------------------------------------------


def read_requirement(line: str) -> tuple[str, str]:
    """Return name and bound of a requirement as pyproject.toml writes them, without extras and markers."""
    match = re.match(r"([\w.-]+)(?:\[[\w,]+\])? *([^;]*)", line)
    assert match is not None, f"unreadable: {line}"
    return match[1], match[2].strip()


def documented_dependencies() -> dict[str, dict[str, str]]:
    """Return section -> package -> bound as docs/dependencies.md has them."""
    sections: dict[str, dict[str, str]] = {}
    section = ""
    for line in read("docs/dependencies.md").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            name, bound, seen, why = (cell.strip(" `") for cell in line.strip("|").split("|"))
            assert re.fullmatch(r"[\d.]+", seen), f"{name}: {seen} is no release"
            assert why, f"{name}: why is it here?"
            sections.setdefault(section, {})[name] = bound
    return sections


def test_the_dependencies_are_documented() -> None:
    settings = tomllib.loads(read("pyproject.toml"))
    project = settings["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "Runtime": project["dependencies"],
        "Extras": [line for name in extras for line in extras[name]],
        "Development": settings["dependency-groups"]["dev"],
        "Benchmarks": settings["dependency-groups"]["bench"],
        "Build": settings["build-system"]["requires"],
    }
    # The extra "all" is made of the others by naming the project itself.
    assert documented_dependencies() == {
        section: {name: bound for name, bound in map(read_requirement, lines) if name != project["name"]}
        for section, lines in wanted.items()
    }


# --- settings -----------------------------------------------------------------------------------------------


def test_every_setting_is_documented_and_no_other() -> None:
    options = [o for group in config.groups(config.catalogue().plugins.values()) for o in group.options]
    documented = {}
    for line in read("docs/configuration.md").splitlines():
        if line.startswith("| `-"):
            flags, variable, default, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            assert meaning, f"{flags}: what is it for?"
            documented[flags.replace("`", "")] = (variable.strip("`"), default.strip("`"))
    assert documented == {
        f"{o.flag}, {o.short}" if o.short else o.flag: (o.environment, o.default_text or "none")
        for o in options
    }


def test_documents_name_only_settings_that_exist(document: str) -> None:
    options = [o for group in config.groups(config.catalogue().plugins.values()) for o in group.options]
    known = {o.flag for o in options} | {"--help", "--version"}
    # The engine that docs/engines/writing.md shows.
    known |= {f"--{name}" for name in re.findall(r'name="(journal-\w+)"', read(EXAMPLE))}
    if "ratus worker" in read(document):
        known |= set(worker.parser()._option_string_actions)
    # Flags of the server: in the prose, and on the lines of a block that run it.
    named = re.findall(r"`(--[a-z-]+)", prose(document))
    for line in re.findall(r"^(?:\S*/)?ratus (--.*)$", read(document), re.MULTILINE):
        named += re.findall(r"(?:^| )(--[a-z-]+)", line)
    assert set(named) <= known
