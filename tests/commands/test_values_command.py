"""`ratus values`: what it prints, and its exit codes."""

from __future__ import annotations

import io
import json
import sys
from typing import Any

import pytest

from ratus.cli import main
from ratus.testing import RatusServer


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Any:
    with RatusServer(real_clock=True) as server:
        monkeypatch.setenv("RATUS_URL", server.url)
        yield server.url


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints, on whichever stream its exit code is about."""
    assert main(["values", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_a_value_is_set_read_listed_and_deleted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    revision = said(capsys, "set", "a/b", '{"x": "é"}').strip()
    assert revision.isdecimal()
    assert said(capsys, "get", "a/b") == '{"x": "é"}\n'
    whole = json.loads(said(capsys, "get", "a/b", "--output", "json"))
    assert (whole["name"], whole["value"], whole["revision"]) == ("a/b", {"x": "é"}, int(revision))
    assert "conflict" in said(capsys, "set", "a/b", "1", "--if-revision", "0", code=1)
    said(capsys, "set", "a/b", "null", "--if-revision", revision)
    assert json.loads(said(capsys, "list", "a/", "--output", "json"))["value"] is None
    head, row = said(capsys, "list", "--output", "table").splitlines()
    assert head.split() == ["NAME", "REVISION", "UPDATED", "VALUE"]
    assert row.split()[0] == "a/b"
    said(capsys, "set", "a/c", "1")
    assert main(["values", "list", "--limit", "1"]) == 0
    assert "more than 1" in capsys.readouterr().err
    said(capsys, "delete", "a/b")
    assert "there is no value" in said(capsys, "delete", "a/b", code=1)
    assert "there is no value" in said(capsys, "get", "a/b", code=1)


def test_a_value_from_standard_input(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"[1,\n2]")))
    said(capsys, "set", "a", "-")
    assert said(capsys, "get", "a") == "[1, 2]\n"


def test_values_are_watched(
    url: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    said(capsys, "set", "a", "1")
    said(capsys, "set", "b", "2")
    shown: list[Any] = []

    def show(line: str, **more: Any) -> None:
        shown.append(json.loads(line))
        if len(shown) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("builtins.print", show)
    assert main(["values", "watch", "--prefix", ""]) == 130
    assert [value["name"] for value in shown] == ["a", "b"]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "say what to do: the actions are list, get, set, delete, watch"),
        (["gte"], 'unknown action "gte"'),
        (["set", "a", "hello"], "a text stands in quotes"),
        (["list", "--limit", "0"], "--limit: at least 1"),
        (["watch"], "name the values to watch"),
    ],
)
def test_what_is_refused(
    url: str, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    assert problem in said(capsys, *arguments, code=2)


def test_help_names_the_actions(capsys: pytest.CaptureFixture[str]) -> None:
    for action in ("list", "get", "set", "delete", "watch"):
        assert f"  {action} " in said(capsys, "--help")
        assert f"usage: ratus values {action}" in said(capsys, action, "--help")
