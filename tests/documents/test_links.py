"""Links resolve, and no document names a path that a reader does not have."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.documents.pages import NAMES, ROOT, blocks, prose, read

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
SERVICE_PATHS = (
    "/etc/ratus",
    "/etc/systemd/system/ratus.service",
    "/opt/ratus",
    "/run/secrets",
    "/var/backups/ratus",
    "/var/lib/ratus",
)

# ... or what every system has that runs a shell.
EVERYWHERE = {"/bin/sh", "/dev/null", "/dev/cpu_dma_latency"}


@pytest.fixture(params=NAMES)
def document(request: pytest.FixtureRequest) -> str:
    """Each document of the repository in turn."""
    return str(request.param)


def anchors(name: str) -> set[str]:
    """The anchors of a document's headings."""
    headings = re.findall(r"^#+ (.+)$", prose(name), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def targets(name: str) -> list[str]:
    """What a document links to and shows."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(name))


def test_links_resolve(document: str) -> None:
    for target in targets(document):
        if re.match(r"[a-z]+:", target):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / document).parent.joinpath(file).resolve() if file else ROOT / document
        assert path.is_relative_to(ROOT), f"{target} leads out of the repository"
        assert path.exists(), f"{target} leads nowhere"
        if anchor and path.suffix == ".md":
            known = anchors(path.relative_to(ROOT).as_posix())
            assert anchor in known, f"{target}: no such heading"


def test_links_to_other_places_are_encrypted(document: str) -> None:
    for target in targets(document):
        assert not re.match(r"[a-z]+:(?!//)|(?!https:)[a-z]+://", target), target


def test_no_document_names_a_path_outside_the_repository(document: str) -> None:
    text = read(document)
    for path in re.findall(r"(?<![\w.:/{}*])/\w[\w./-]*", text):
        if path.split("/")[1] in ROOT_FOLDERS:
            known = path.startswith(SERVICE_PATHS) or path in EVERYWHERE
            assert known, f"{path} is not part of the repository"
    programs = {block.program for block in blocks(document)}
    for name in set(re.findall(r"`(\w[\w./-]*\.(?:md|py|toml|yaml))`", text)) - programs:
        # A bare file name is found anywhere in the tree, a path from the root or from the document's folder.
        found = (
            (ROOT / name).exists()
            or (ROOT / document).parent.joinpath(name).exists()
            or ("/" not in name and any(ROOT.glob(f"[!.]*/**/{name}")))
        )
        assert found, f"{name} is not part of the repository"
