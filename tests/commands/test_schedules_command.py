"""`ratus schedules`: what it prints, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ratus.cli import main
from ratus.testing import RatusServer


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Any:
    with RatusServer() as server:
        monkeypatch.setenv("RATUS_URL", server.url)
        yield server.url


def said(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> str:
    """What a command prints, on whichever stream its exit code is about."""
    assert main(["schedules", *arguments]) == code
    out, err = capsys.readouterr()
    return err if code else out


def test_a_schedule_is_set_shown_changed_and_deleted(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["nightly", "reports", "--cron", "30 2 * * *", "--zone", "Europe/Berlin"]
    shown = said(capsys, "set", *arguments, "--task", '{"payload": 1}', "--output", "table").splitlines()
    assert shown[0] == "At 02:30 every day, in Europe/Berlin"
    assert len(shown) == 6
    shown = said(capsys, "show", "nightly", "--output", "table").splitlines()
    assert "cron: 30 2 * * *" in shown
    assert "in words: At 02:30 every day, in Europe/Berlin" in shown
    assert 'task: {"payload": 1}' in shown
    assert shown[-6] == "next runs:"
    head, row = said(capsys, "list", "--output", "table").splitlines()
    assert head.split() == ["NAME", "TOPIC", "WHEN", "NEXT", "LAST", "PAUSED"]
    assert row.split()[:2] == ["nightly", "reports"]
    said(capsys, "pause", "nightly")
    assert said(capsys, "show", "nightly", "--output", "table").splitlines()[-1] == "paused: no runs"
    said(capsys, "resume", "nightly")
    assert said(capsys, "run", "nightly").startswith("nightly@")
    assert json.loads(said(capsys, "list", "--output", "json"))["last"]["state"] == 0
    said(capsys, "delete", "nightly")
    for action in ("show", "delete", "pause", "resume", "run"):
        assert 'there is no schedule "nightly"' in said(capsys, action, "nightly", code=1)
    assert "zone: " in said(capsys, "set", *arguments[:4], "--zone", "Nowhere", code=1)
    assert "give either cron" in said(capsys, "set", "nightly", "reports", code=1)


def test_a_server_is_brought_to_a_file(url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "schedules.yaml"
    file.write_text(
        "nightly: {topic: reports, cron: 30 2 * * *, zone: Europe/Berlin}\n"
        "feeds: {topic: feeds, every: 15m, overlap: skip}\n"
    )
    said(capsys, "set", "old", "t", "--every", "1h")
    said(capsys, "set", "feeds", "feeds", "--every", "5m")
    planned = said(capsys, "sync", str(file), "--prune", "--dry-run").splitlines()
    assert planned == [
        "would be made: nightly",
        "would be changed: feeds",
        "would be deleted: old",
        "1 made, 1 changed, 1 deleted, 0 same",
    ]
    assert said(capsys, "sync", str(file)).splitlines()[-1] == "1 made, 1 changed, 0 deleted, 0 same"
    assert said(capsys, "sync", str(file), "--prune").splitlines() == [
        "deleted: old",
        "0 made, 0 changed, 1 deleted, 2 same",
    ]
    # What is listed can be synchronized.
    lines = tmp_path / "schedules.ndjson"
    lines.write_text(said(capsys, "list", "--output", "json"))
    assert said(capsys, "sync", str(lines)) == "0 made, 0 changed, 0 deleted, 2 same\n"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[1]", "give a list of schedules"),
        ('[{"topic": "t"}]', "a schedule without a name"),
        ('[{"name": "a", "topic": "t"}, {"name": "a", "topic": "t"}]', 'schedule "a" stands twice'),
        ('{"a": {"topic": "t", "corn": "@daily"}}', "did you mean 'cron'"),
        ('{"a": {"topic": "t", "cron": "@fortnightly"}}', "@fortnightly"),
        ("{", "not JSON"),
    ],
)
def test_a_file_that_is_wrong_changes_nothing(
    url: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    file = tmp_path / "schedules.json"
    file.write_text(text)
    assert problem in said(capsys, "sync", str(file), code=1)
    assert said(capsys, "list", "--output", "json") == ""
    assert "cannot read" in said(capsys, "sync", str(tmp_path / "none.json"), code=1)
