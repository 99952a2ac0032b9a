"""The documents are tested: commands run, links resolve, and what they list is what is there.

A ``sh`` block of curl commands is run against a live server, in the order of the page. A ``json`` block
right after it shows the last command's answer; the word after ``json`` is its status (200 where there is
none). Texts that differ from run to run (nonces, cursors) are learnt from the answers and put into the
commands that follow.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from ratus import config
from tests.api.live import serving

ROOT = Path(__file__).resolve().parent.parent
# Made by tools and by make, not part of the project.
GENERATED = {"build", "dist", "htmlcov", "results", "__pycache__", "node_modules"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in GENERATED or part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]
FENCE = re.compile(r"^```(\w*)[ \t]*([^\n]*)\n(.*?)^```[ \t]*$", re.MULTILINE | re.DOTALL)
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
# The folders of a file system's root: a path that starts with one points out of the repository ...
ROOT_FOLDERS = {path.name for path in Path("/").iterdir()} | {
    "etc",
    "home",
    "mnt",
    "opt",
    "root",
    "tmp",
    "usr",
}
# ... unless it is where an administrator would put a service's own files.
SERVICE_PATHS = ("/etc/ratus", "/var/lib/ratus", "/run/secrets")


@pytest.fixture(params=NAMES)
def document(request: pytest.FixtureRequest) -> Path:
    """Each document of the repository in turn."""
    return ROOT / str(request.param)


def prose(path: Path) -> str:
    """Return a document without its fenced blocks."""
    return FENCE.sub("", path.read_text(encoding="utf-8"))


# --- commands -----------------------------------------------------------------------------------------------


@dataclass
class Exchange:
    """One curl command of a document and, where it is shown, the answer."""

    command: str
    status: int | None = None
    answer: str | None = None


def shell_commands(text: str) -> list[str]:
    """Split a shell block into commands; one goes on over an open quote and a backslash at the end."""
    commands: list[str] = []
    begun = ""
    for line in text.splitlines():
        begun += line
        try:
            shlex.split(begun)
        except ValueError:
            begun += "\n"
        else:
            commands.append(begun)
            begun = ""
    assert not begun, f"unfinished: {begun}"
    return commands


def exchanges(path: Path) -> list[Exchange]:
    """Return a document's curl commands in order, with the answers shown after them."""
    found: list[Exchange] = []
    previous = ""
    for language, info, text in FENCE.findall(path.read_text(encoding="utf-8")):
        if language == "json" and previous == "curl":
            found[-1].status = int(info or 200)
            found[-1].answer = text
        commands = [line for line in shell_commands(text) if re.match(r"curl .*localhost:8000", line)]
        if language == "sh" and commands:
            found += [Exchange(command) for command in commands]
            previous = "curl"
        else:
            previous = language
    return found


def find_curl() -> str:
    """Return the path of curl; without one, skip the test at home and fail it in CI."""
    found = shutil.which("curl")
    if found is None:
        if os.environ.get("CI"):
            pytest.fail("the documents' commands need curl")
        pytest.skip("no curl on this machine")
    return found


def compare(shown: Any, real: Any, learnt: dict[str, str], where: str) -> None:
    """Hold a shown answer against a real one: same members, same values but for times, nonces and cursors."""
    if isinstance(shown, dict):
        assert isinstance(real, dict), where
        assert sorted(shown) == sorted(real), f"{where}: shown {sorted(shown)}, answered {sorted(real)}"
        for name, value in shown.items():
            if name in ("nonce", "next") and value:
                assert real[name], f"{where}.{name} is empty"
                learnt[value] = real[name]
            else:
                compare(value, real[name], learnt, f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(real, list), where
        assert len(shown) == len(real), where
        for number, (one, other) in enumerate(zip(shown, real, strict=True)):
            compare(one, other, learnt, f"{where}[{number}]")
    elif isinstance(shown, str) and RFC_3339.fullmatch(shown):
        assert RFC_3339.fullmatch(real), f"{where}: {real!r} is no time"
    else:
        assert shown == real, f"{where}: shown {shown!r}, answered {real!r}"


WITH_COMMANDS = [name for name in NAMES if exchanges(ROOT / name)]


@pytest.mark.parametrize("name", WITH_COMMANDS)
def test_the_commands_of_a_document_give_the_answers_it_shows(name: str, tmp_path: Path) -> None:
    curl = find_curl()
    learnt: dict[str, str] = {}
    with serving(tmp_path) as address:
        for exchange in exchanges(ROOT / name):
            command = exchange.command.replace("localhost:8000", address.removeprefix("http://"))
            for shown, real in learnt.items():
                command = command.replace(shown, real)
            command = command.replace(
                "curl ", f"{curl} --silent --show-error --write-out '\\n%{{http_code}}' ", 1
            )
            done = subprocess.run(
                ["sh", "-c", command], capture_output=True, text=True, timeout=60, check=True
            )
            text, _, status = done.stdout.rpartition("\n")
            if exchange.answer is None:
                assert status.startswith("2"), f"{exchange.command}: {status} {text}"
                continue
            assert status == str(exchange.status), f"{exchange.command}: {status} {text}"
            compare(json.loads(exchange.answer), json.loads(text), learnt, exchange.command)


def test_the_readme_takes_a_tour_of_the_queue() -> None:
    shown = [exchange for exchange in exchanges(ROOT / "README.md") if exchange.answer]
    assert len(shown) >= 10, "the tour's blocks are not recognised any more"


def test_documents_name_only_targets_of_the_makefile(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^|`|[A-Z]=\S+ )make ([a-z]+)", document.read_text(), re.MULTILINE))
    assert named <= targets


# --- links and paths ----------------------------------------------------------------------------------------


def anchors(path: Path) -> set[str]:
    """Return the anchors that a document's headings have on GitHub."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", path.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_resolve(document: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(document)):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (document.parent / file).resolve() if file else document
        assert path.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert path.exists(), f"{target} leads nowhere"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{target}: no such heading"


def test_no_document_names_a_path_outside_the_repository(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    for path in re.findall(r"(?<![\w.:/{}*])/\w[\w./-]*", text):
        if path.split("/")[1] in ROOT_FOLDERS:
            assert path.startswith(SERVICE_PATHS), f"{path} is not part of the repository"
    for name in re.findall(r"`(\w[\w./-]*\.(?:md|py|toml|yaml))`", text):
        # A bare file name is found anywhere in the tree, a path from the root or from the document's folder.
        found = (
            (ROOT / name).exists()
            or (document.parent / name).exists()
            or ("/" not in name and any(ROOT.glob(f"[!.]*/**/{name}")))
        )
        assert found, f"{name} is not part of the repository"


def test_the_readme_maps_what_is_there() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    tree = FENCE.search(text, text.index("## Map of the tree"))
    assert tree is not None
    named: set[str] = set()
    folders: list[tuple[int, str]] = []
    for line in tree[3].splitlines():
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
    index = (folder / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| \[\d{4}\]\(([^)]+)\)", index, re.MULTILINE) == records
    for record in records:
        text = (folder / record).read_text(encoding="utf-8")
        assert text.startswith(f"# {record[:4]}: "), f"{record}: its title begins with its number"
        assert re.search(r"^Status: (proposed|accepted|replaced by \d{4})$", text, re.MULTILINE), record


def test_the_reference_lists_every_endpoint_and_no_other() -> None:
    text = (ROOT / "docs/api.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[A-Z]+ /[^|]*)\|", text, re.MULTILINE)
    listed = {tuple(name.split()) for row in rows for name in re.findall(r"`([^`]+)`", row)}
    paths = yaml.safe_load((ROOT / "openapi.yaml").read_text(encoding="utf-8"))["paths"]
    served = {(method.upper(), path.removeprefix("/v1")) for path, item in paths.items() for method in item}
    assert listed == served | {("GET", "/"), ("GET", "/openapi.json"), ("GET", "/openapi.yaml")}


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
    for line in (ROOT / "docs/dependencies.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            section = line.removeprefix("## ")
        elif line.startswith("| `"):
            name, bound, seen, why = (cell.strip(" `") for cell in line.strip("|").split("|"))
            assert re.fullmatch(r"[\d.]+", seen), f"{name}: {seen} is no release"
            assert why, f"{name}: why is it here?"
            sections.setdefault(section, {})[name] = bound
    return sections


def test_the_dependencies_are_documented() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "Runtime": project["dependencies"],
        "Extras": [line for name in extras for line in extras[name]],
        "Development": settings["dependency-groups"]["dev"],
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
    for line in (ROOT / "docs/configuration.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("| `-"):
            flags, variable, default, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            assert meaning, f"{flags}: what is it for?"
            documented[flags.replace("`", "")] = (variable.strip("`"), default.strip("`"))
    assert documented == {
        f"{o.flag}, {o.short}" if o.short else o.flag: (o.environment, o.default_text or "none")
        for o in options
    }


def test_documents_name_only_settings_that_exist(document: Path) -> None:
    options = [o for group in config.groups(config.catalogue().plugins.values()) for o in group.options]
    known = {o.flag for o in options} | {"--help", "--version"}
    text = document.read_text(encoding="utf-8")
    # Flags of the server: in the prose, and on the lines of a block that run it.
    named = re.findall(r"`(--[a-z-]+)", FENCE.sub("", text))
    for line in re.findall(r"^(?:\S*/)?ratus (--.*)$", text, re.MULTILINE):
        named += re.findall(r"(?:^| )(--[a-z-]+)", line)
    assert set(named) <= known
