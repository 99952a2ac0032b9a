"""docs/api.md is complete: every endpoint, member, parameter and status of openapi.yaml is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from tests.documents.pages import read

PAGE = read("docs/api.md")
SPECIFICATION: dict[str, Any] = yaml.safe_load(read("openapi.yaml"))
PAGES = {("GET", "/"), ("GET", "/openapi.json"), ("GET", "/openapi.yaml")}


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Every operation: method, path without its version, and what the specification says."""
    for path, item in SPECIFICATION["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path.removeprefix("/v1"), operation


def table(heading: str) -> str:
    """The part of the page under a heading, up to the next of the same level or above."""
    level = heading.partition(" ")[0]
    match = re.search(rf"^{re.escape(heading)}\n(.*?)(?=^#{{1,{len(level)}}} |\Z)", PAGE, re.M | re.S)
    assert match, heading
    return match[1]


def test_it_lists_every_endpoint_and_no_other() -> None:
    rows = re.findall(r"^\| (`[A-Z]+ /[^|]*)\|", table("## Endpoints"), re.MULTILINE)
    listed = {tuple(name.split()) for row in rows for name in re.findall(r"`([^`]+)`", row)}
    assert listed == {(method, path) for method, path, _ in operations()} | PAGES


def test_each_endpoint_has_its_answers() -> None:
    """What an endpoint says of itself; what any may say (a wrong token, a full disk) is told once."""
    anywhere = {"400", "401", "403", "408", "413", "431", "500", "503", "405"}
    answers = {
        tuple(name.split()): row.rpartition("|")[2]
        for row in re.findall(r"^\| (`[A-Z]+ /.*)\|$", PAGE, re.MULTILINE)
        for name in re.findall(r"`([^`]+)`", row.split("|")[0])
    }
    for method, path, operation in operations():
        shown = set(re.findall(r"\b[2-5]\d\d\b", answers[method, path]))
        assert set(operation["responses"]) - anywhere == shown - anywhere, (method, path)
    named = set(re.findall(r"^\| (\d{3}) \|", table("### Errors"), re.MULTILINE))
    assert {status for _, _, o in operations() for status in o["responses"] if status >= "400"} <= named


def parameters(operation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Where each parameter of an operation is (path or query), and its name."""
    for parameter in operation.get("parameters", ()):
        if "$ref" in parameter:
            parameter = SPECIFICATION["components"]["parameters"][parameter["$ref"].rpartition("/")[2]]
        yield parameter["in"], parameter["name"]


def test_it_has_every_query_parameter_and_no_other() -> None:
    listed = set()
    for row in re.findall(r"^\| (`.*)\|$", table("### Query parameters"), re.MULTILINE):
        names, endpoints, meaning = row.split("|")
        assert meaning.strip(), row
        for method, path in re.findall(r"`([A-Z]+) ([^`]+)`", endpoints):
            listed |= {(method, path, name) for name in re.findall(r"`([^`]+)`", names)}
    assert listed == {
        (method, path, name)
        for method, path, operation in operations()
        for place, name in parameters(operation)
        if place == "query"
    }


@pytest.mark.parametrize("name", sorted(SPECIFICATION["components"]["schemas"]))
def test_it_has_every_member(name: str) -> None:
    schema = SPECIFICATION["components"]["schemas"][name]
    for member in schema.get("properties", {}):
        assert re.search(rf"[`\"]{member}[`\"]", PAGE), f"{name}.{member}"
