"""What `make audit` makes of what pip-audit says."""

from __future__ import annotations

import json
from typing import Any

import pytest

from scripts.audit import judge

GOOD: dict[str, Any] = {"name": "good", "version": "1.0", "vulns": []}
BAD: dict[str, Any] = {
    "name": "bad",
    "version": "1.0",
    "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.1"]}, {"id": "PYSEC-2", "fix_versions": []}],
}
UNKNOWN: dict[str, Any] = {"name": "unknown", "skip_reason": "Dependency not found"}
OFFLINE = "Traceback\nrequests.exceptions.ConnectionError: HTTPSConnectionPool(host='x'): no route\n"


def output(*packages: dict[str, Any]) -> str:
    return json.dumps({"dependencies": packages, "fixes": []})


def test_a_finding_fails_and_names_what_helps() -> None:
    lines, code = judge(output(GOOD, BAD, UNKNOWN), "")
    assert code == 1
    assert lines == ["bad 1.0: PYSEC-1, fixed in 1.1", "bad 1.0: PYSEC-2, fixed in no release yet"]


def test_nothing_found_says_how_much_was_compared() -> None:
    assert judge(output(GOOD, GOOD), "") == (["no known vulnerability in 2 packages"], 0)


def test_what_was_not_compared_is_named() -> None:
    lines, code = judge(output(GOOD, UNKNOWN), "")
    assert code == 0
    assert lines[0].endswith("unknown")


@pytest.mark.parametrize(("told", "errors"), [("", OFFLINE), (output(UNKNOWN, UNKNOWN), "")])
def test_no_service_is_no_failure_but_is_said(told: str, errors: str) -> None:
    (line,), code = judge(told, errors)
    assert code == 0
    assert line.startswith("SKIPPED, nothing was compared")


@pytest.mark.parametrize("told", ["", "{}", "no JSON", "[]"])
def test_a_defect_of_the_tool_is_a_failure(told: str) -> None:
    with pytest.raises(ValueError, match="pip-audit failed"):
        judge(told, "usage: pip-audit: error: unrecognized arguments: --nonsense")
