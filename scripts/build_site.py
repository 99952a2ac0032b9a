"""Build the documentation site into site/.

    python scripts/build_site.py

The documents are written for a reader of the repository: they link to each other and to files of the tree,
and their blocks carry notes for the tests. This lays them out as Zensical wants them (build/docs): those of
docs/ where they are, the others that are linked to under source/, files of code
as pages that show them, folders as lists.
Links follow. Then Zensical builds it, strictly: a warning is an error. scripts/check_site.py looks at what
came of it.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
DOCS: Final = "docs"
STAGED: Final = "build/docs"

# Documents of the root that are pages of the site; what else is linked to goes under source/.
PAGES: Final = {"CHANGELOG.md": "changelog.md", "CONTRIBUTING.md": "contributing.md", "README.md": "tour.md"}
# Of the README only the tour: docs/index.md and the others say the rest.
TOUR: Final = re.compile(r"^## Five minutes with curl\n.*?(?=^## )", re.MULTILINE | re.DOTALL)

FENCE: Final = re.compile(r"^( *)(`{3,})(\w*)[^\n]*\n.*?^ *\2[ \t]*$\n?", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"(?<=\]\()([^)\s]+)(?=\))")
LANGUAGES: Final = {
    "": "text",
    ".js": "javascript",
    ".json": "json",
    ".php": "php",
    ".py": "python",
    ".rb": "ruby",
    ".sh": "sh",
    ".toml": "toml",
    ".yaml": "yaml",
    ".yml": "yaml",
}


class SiteError(Exception):
    """A document that cannot be part of the site; the text says which, and why."""


class Site:
    """The documents on their way into the site, by their paths from the root of the repository."""

    def __init__(self, root: Path = ROOT) -> None:
        self._root = root
        self._queue: list[str] = []
        self._pages: dict[str, str] = {}

    def stage(self, folder: Path) -> None:
        """Lay the documents out in a folder, which is made anew. Raises `SiteError`."""
        shutil.rmtree(folder, ignore_errors=True)
        for path in sorted((self._root / DOCS).rglob("*")):
            if path.is_file():
                self._page(path.relative_to(self._root).as_posix())
        for name in PAGES:
            self._page(name)
        while self._queue:  # a page may lead to another file of the tree
            name = self._queue.pop()
            target = folder / self._pages[name]
            target.parent.mkdir(parents=True, exist_ok=True)
            if (self._root / name).is_dir():
                target.write_text(self._folder(name), encoding="utf-8")
            elif name.endswith(".md"):
                target.write_text(self._document(name), encoding="utf-8")
            elif name.startswith(f"{DOCS}/"):
                shutil.copyfile(self._root / name, target)
            else:
                target.write_text(self._code(name), encoding="utf-8")

    def _page(self, name: str) -> str:
        """Where a file of the repository is in the site; from now on it has to be there."""
        if name not in self._pages:
            if name.startswith(f"{DOCS}/"):
                self._pages[name] = name.removeprefix(f"{DOCS}/")
            elif (self._root / name / "README.md").is_file():
                return self._page(f"{name}/README.md")
            elif (self._root / name).is_dir():
                self._pages[name] = f"source/{name}/index.md"
            elif name.endswith(".md"):
                self._pages[name] = PAGES.get(name, f"source/{name}")
            else:
                self._pages[name] = f"source/{name}.md"
            self._queue.append(name)
        return self._pages[name]

    def _document(self, name: str) -> str:
        text = (self._root / name).read_text(encoding="utf-8")
        if name == "README.md":
            tour = TOUR.search(text)
            if tour is None:
                raise SiteError("README.md: the tour with curl is not where it was")
            text = re.sub(r"^##", "#", tour[0], flags=re.MULTILINE)
        parts, end = [], 0
        for fence in FENCE.finditer(text):
            parts.append(self._with_links(text[end : fence.start()], name))
            # The notes for the tests are no business of Zensical's.
            indent, marks, language = fence[1], fence[2], fence[3]
            parts.append(f"{indent}{marks}{language}\n{fence[0].partition(chr(10))[2]}")
            end = fence.end()
        return "".join([*parts, self._with_links(text[end:], name)])

    def _with_links(self, text: str, name: str) -> str:
        return LINK.sub(lambda link: self._link(link[1], name), text)

    def _link(self, target: str, name: str) -> str:
        path, mark, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return target
        file = posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
        if file.startswith("..") or not (self._root / file).exists():
            raise SiteError(f"{name}: {target} is not in the repository")
        return self._way(name, file) + mark + anchor

    def _way(self, start: str, end: str) -> str:
        """From the page of one file to that of another."""
        return posixpath.relpath(self._page(end), posixpath.dirname(self._page(start)) or ".")

    def _folder(self, name: str) -> str:
        """A page that lists what is in a folder."""
        inside = sorted(path.name for path in (self._root / name).iterdir())
        inside = [each for each in inside if each[0] != "." and each != "__pycache__"]
        return "\n".join(
            [f"# {name}", "", *(f"- [{each}]({self._way(name, f'{name}/{each}')})" for each in inside), ""]
        )

    def _code(self, name: str) -> str:
        """A page that shows a file."""
        text = (self._root / name).read_text(encoding="utf-8").rstrip("\n")
        language = LANGUAGES.get(Path(name).suffix, "text")
        marks = "`" * max(3, *(len(run) + 1 for run in re.findall(r"`+", text) or [""]))
        return f"# {name}\n\n{marks}{language}\n{text}\n{marks}\n"


def build(folder: Path = ROOT) -> int:
    """Stage and build within a folder, by default the repository's; the exit code. Raises `SiteError`."""
    Site().stage(folder / STAGED)
    if folder != ROOT:
        shutil.copy(ROOT / "mkdocs.yml", folder)
    # The cache is not to be trusted: it misses pages of the last build that are gone.
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean"]
    return subprocess.run(command, cwd=folder, check=False).returncode


def main() -> int:
    """Build the site; the exit code."""
    try:
        return build()
    except SiteError as error:
        print(f"documents: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
