"""The page on the client is true: its examples run. Its reference, and that of the page on apps, are what the
docstrings say."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

import ratus
from ratus.commands import CLIENT_COMMANDS
from ratus.testing import RatusServer
from scripts import client_reference

PAGE = (Path(__file__).parents[2] / "docs/client.md").read_text(encoding="utf-8")


README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", client_reference.PAGES)
def test_the_reference_is_that_of_the_docstrings(name: str) -> None:
    text = (client_reference.DOCS / name).read_text(encoding="utf-8")
    assert client_reference.page(name, text) == text, "run: python scripts/client_reference.py"


def test_every_public_name_is_in_the_reference() -> None:
    reference = "".join(
        (client_reference.DOCS / name).read_text(encoding="utf-8").partition(client_reference.MARK)[2]
        for name in client_reference.PAGES
    )
    for name in ratus.__all__:
        if name != "__version__":
            assert re.search(rf"^(#### {name}|\| `{name}` \|)", reference, re.MULTILINE), name


def test_every_command_is_on_the_page() -> None:
    assert re.findall(r"^ratus (\w+) ", PAGE, re.MULTILINE) == list(CLIENT_COMMANDS)


def test_the_examples_run_one_after_the_other(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_examples(PAGE, monkeypatch) >= 6
    printed = capsys.readouterr().out.splitlines()
    assert printed == ["ann", "42", "acme hold", "409 conflict: a task with the same ID already exists"]


def test_the_examples_of_the_readme_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run_examples(README, monkeypatch) == 2
    assert capsys.readouterr().out == "hello, bob\n/thumbnails/7-320.png\n"


def run_examples(text: str, monkeypatch: pytest.MonkeyPatch) -> int:
    """Run the blocks of Python on a page one after the other; how many there are."""
    blocks = re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    page = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    with RatusServer(real_clock=True) as server:
        for block in blocks:
            code = block.replace("http://127.0.0.1:8000", server.url)
            exec(compile(code, "a page", "exec"), vars(page))
    return len(blocks)
