"""The project's documents and the fenced blocks in them, as the tests of this folder read them.

The word after the three backticks is a block's language; what may follow it is for the tests, and no renderer
shows it:

    ```json 409                                 the answer to the curl command before it, and its status
    ```text output                              what the block before it prints
    ```python program="worker.py"               a whole program, run by the test of the quickstart
    ```python from="examples/hello_world.py"    a part of this file, which has tests of its own
    ```sh run-by="scripts/check_package.py"     run, but by this file and not by a test of documents
    ```sh no-run="needs a Kubernetes cluster"   not run, and why; test_blocks.py lists them all
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Made by tools and by make, not part of the project.
GENERATED = {"build", "dist", "htmlcov", "results", "site", "__pycache__", "node_modules"}
DOCUMENTS = sorted(
    path
    for path in ROOT.rglob("*.md")
    if not any(part in GENERATED or part.startswith(".") for part in path.relative_to(ROOT).parts)
)
NAMES = [path.relative_to(ROOT).as_posix() for path in DOCUMENTS]

FENCE = re.compile(
    r"^ *```(?P<language>\w*)[ \t]*(?P<info>[^\n]*)\n(?P<text>.*?)^ *```[ \t]*$", re.MULTILINE | re.DOTALL
)
NOTE = re.compile(
    r"""(?P<status>\d{3})
    |(?P<output>output)
    |program="(?P<program>[\w.]+)"
    |from="(?P<source>[\w./]+)"
    |run-by="(?P<run_by>[\w./]+)"
    |no-run="(?P<no_run>[^"]+)"
    """,
    re.VERBOSE,
)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it is, its language, its text, and what its first line notes for the tests."""

    page: str
    line: int
    language: str
    text: str
    status: int | None = None
    output: bool = False
    program: str = ""
    source: str = ""
    run_by: str = ""
    no_run: str = ""

    @property
    def where(self) -> str:
        """The page and the line, as editors take them."""
        return f"{self.page}:{self.line}"


def read(name: str) -> str:
    """The text of a document, by its path from the root of the repository."""
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(name: str) -> list[Block]:
    """The fenced blocks of a document, in order."""
    return blocks_of(read(name), name)


def blocks_of(text: str, name: str) -> list[Block]:
    """The fenced blocks of a text that is, or might be, the document of this name."""
    found = []
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        note = NOTE.fullmatch(match["info"].strip())
        assert note or not match["info"].strip(), f"{name}:{line}: what does {match['info']!r} mean?"
        notes = {name: value or "" for name, value in note.groupdict().items()} if note else {}
        status, output = notes.pop("status", ""), notes.pop("output", "")
        found.append(
            Block(
                page=name,
                line=line,
                language=match["language"],
                text=textwrap.dedent(match["text"]),
                status=int(status) if status else None,
                output=bool(output),
                **notes,
            )
        )
    return found


def prose(name: str) -> str:
    """A document without its fenced blocks."""
    return FENCE.sub("", read(name))
