"""Every block of every document is run, in the order of its page; what cannot be run is listed here."""

from __future__ import annotations

import json
import re
import textwrap
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.documents.pages import NAMES, ROOT, Block, blocks, blocks_of, read
from tests.documents.session import Session

# What takes something that no test has. A block that is not here has to run.
NOT_RUN: dict[tuple[str, str], int] = {
    ("docs/deployment.md", "needs a Kubernetes cluster"): 2,
    ("docs/deployment.md", "needs root, and systemd as the first process"): 2,
    ("docs/engines/mongodb.md", "needs a replica set of that name"): 1,
    ("docs/engines/sqlite.md", "needs Litestream and a bucket"): 2,
    ("docs/migrating/celery.md", "needs Celery and a broker"): 1,
    ("docs/migrating/dramatiq.md", "needs Dramatiq and a broker"): 1,
    ("docs/migrating/huey.md", "needs Huey"): 1,
    ("docs/migrating/queue_sqlite.md", "needs queue_sqlite"): 3,
    ("docs/migrating/rq.md", "needs RQ and Redis"): 1,
}

DATA: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": lambda text: list(yaml.safe_load_all(text)),
}
# Programs in these are run by test_languages.py.
LANGUAGES = {"sh", "python", "javascript", "php", "ruby"}
ALL = [block for name in NAMES for block in blocks(name)]


def is_run(block: Block) -> bool:
    """Whether the block is a step of its page, and not a program, a quotation or run by something else."""
    steps = block.language in ("sh", "python", "json") or block.output
    return steps and not (block.program or block.source or block.run_by or block.no_run)


def run(steps: list[Block], folder: Path) -> None:
    """Run the blocks of one page on a machine of its own."""
    with Session(folder) as session:
        for block in steps:
            session.run(block)
        session.finish()


WITH_STEPS = sorted({block.page for block in ALL if is_run(block) and block.language != "json"})


@pytest.mark.parametrize("name", WITH_STEPS)
def test_the_blocks_of_a_page_run_and_give_what_it_shows(name: str, tmp_path: Path) -> None:
    run(list(filter(is_run, blocks(name))), tmp_path)


def test_a_wrong_answer_is_noticed(tmp_path: Path) -> None:
    """The tests of documents would notice: a wrong status, answer, output or command."""
    for text in (
        "```sh\ncurl localhost:8000/v1/topics\n```\n```json 404\n{}\n```",
        '```sh\ncurl localhost:8000/v1/topics\n```\n```json\n{"data": [{"name": "mail"}]}\n```',
        "```sh\ncurl localhost:8000/v1/topics/none\n```",
        "```sh\necho one\n```\n```text output\ntwo\n```",
        "```sh\nratus --no-such-flag\n```",
        "```sh\nfalse\n```",
        "```python\nprint(1)\n```\n```text output\n2\n```",
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        with pytest.raises((AssertionError, pytest.fail.Exception)):
            run(blocks_of(text, "page.md"), folder)


def test_the_readme_takes_a_tour_of_the_queue() -> None:
    shown = [block for block in blocks("README.md") if block.language == "json"]
    assert len(shown) >= 10, "the tour's blocks are not recognised any more"


def test_what_is_not_run_is_known() -> None:
    marked = Counter((block.page, block.no_run) for block in ALL if block.no_run)
    assert marked == NOT_RUN


@pytest.mark.parametrize("block", ALL, ids=lambda block: block.where)
def test_a_block_says_what_it_is(block: Block) -> None:
    if block.language in DATA and not block.source:
        DATA[block.language](block.text)
    if block.language == "python":
        compile(block.text, block.where, "exec")
    if block.source:
        shown, source = block.text.strip("\n"), read(block.source)
        as_there = (textwrap.indent(shown, " " * indent) for indent in (0, 4, 8))
        assert any(text in source for text in as_there), f"{block.source} does not say so any more"
    if block.run_by:
        assert (ROOT / block.run_by).is_file()
    known = LANGUAGES | set(DATA) | {"text"}
    assert block.language in known, f"nothing runs a block of {block.language or 'no language'}"
    assert block.language in ("sh", "python", *DATA, "text") or block.program, "not a step, so a program"


def test_there_is_no_code_that_looks_like_text() -> None:
    """Indented blocks have no language, so nothing would run them."""
    for name in NAMES:
        for match in re.finditer(r"\n\n((?: {4,}\S[^\n]*\n)+)", read(name)):
            before = read(name)[: match.start()].rstrip().rpartition("\n")[2]
            listed = re.match(r" *([-*]|\d+\.) |  ", before) or before.count("```")
            inside = any(textwrap.dedent(match[1]).strip() in textwrap.dedent(b.text) for b in blocks(name))
            assert listed or inside, f"{name}: fence this, with a language:\n{match[1]}"
