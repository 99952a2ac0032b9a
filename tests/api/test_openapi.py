"""The OpenAPI document: true to the routes and the models, complete, valid, and the same in every form."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
import yaml

from ratus import __version__
from ratus.api.routes import ROUTES
from ratus.core import models
from ratus.core.models import WireModel
from scripts import openapi
from scripts.openapi.operations import OPERATIONS
from tests.servers import Api

TOP = Path(__file__).parents[2]
DOCUMENT = openapi.build()
SCHEMAS: dict[str, dict[str, Any]] = DOCUMENT["components"]["schemas"]


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method, operation in item.items():
            yield path, method.upper(), operation


def resolved(found: dict[str, Any]) -> dict[str, Any]:
    """What a reference leads to. Raises `KeyError` for one that leads nowhere."""
    while "$ref" in found:
        target: Any = DOCUMENT
        for step in found["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        found = target
    return found


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for member in value.values():
            yield from references(member)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


# ---- the forms ---------------------------------------------------------------------------------------


def test_the_files_are_up_to_date() -> None:
    """Their order counts, not how the release of the YAML library that wrote them breaks lines."""
    for path in (*openapi.YAML_FILES, openapi.JSON_FILE):
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert json.dumps(written) == json.dumps(DOCUMENT), f"{path} is out of date; run `make openapi`"


def test_the_file_at_the_top_is_the_one_in_the_package() -> None:
    top, packaged = (path.read_bytes() for path in openapi.YAML_FILES)
    assert top == packaged, "run `make openapi`"


def test_what_is_written_reads_back() -> None:
    assert json.loads(openapi.to_json(DOCUMENT)) == DOCUMENT
    assert yaml.safe_load(openapi.to_yaml(DOCUMENT)) == DOCUMENT


def test_a_server_sends_the_files_of_the_package(api: Api) -> None:
    for form, content_type in (("json", "application/json"), ("yaml", "application/yaml")):
        answer = api.get(f"/openapi.{form}")
        assert answer.headers["content-type"] == f"{content_type}; charset=utf-8"
        assert answer.body == (TOP / f"ratus/api/assets/openapi.{form}").read_bytes()


def test_a_server_imports_nothing_that_builds_the_document() -> None:
    code = "import sys, ratus.runtime.app; print(*sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOP)
    assert not {"yaml", "scripts"} & set(done.stdout.split())


def test_the_document_is_the_same_each_time() -> None:
    assert json.dumps(openapi.build()) == json.dumps(DOCUMENT)
    assert DOCUMENT["info"]["version"] == __version__


# ---- valid -------------------------------------------------------------------------------------------


def test_the_document_is_valid_openapi() -> None:
    assert DOCUMENT["openapi"].startswith("3.1.")
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_every_reference_leads_somewhere_and_every_part_is_used() -> None:
    used = set(references(DOCUMENT))
    for reference in used:
        resolved({"$ref": reference})
    for kind in ("schemas", "parameters", "responses"):
        for name in DOCUMENT["components"][kind]:
            assert f"#/components/{kind}/{name}" in used, f"nobody uses {name}"


def test_every_schema_is_valid() -> None:
    for name, schema in SCHEMAS.items():
        assert jsonschema_rs.meta.is_valid(
            {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
        ), name


def examples() -> Iterator[tuple[str, dict[str, Any], Any]]:
    """Every example of the document with its schema and where it stands."""
    for name, schema in SCHEMAS.items():
        for member, inner in schema.get("properties", {}).items():
            for example in inner.get("examples", []):
                yield f"{name}.{member}", inner, example
    for name, parameter in DOCUMENT["components"]["parameters"].items():
        if "example" in parameter:
            yield name, parameter["schema"], parameter["example"]
    for path, method, operation in operations():
        holders = {"request": operation.get("requestBody", {}), **operation["responses"]}
        for holder, found in holders.items():
            for content in resolved(found).get("content", {}).values():
                for name, example in content["examples"].items():
                    yield f"{method} {path} {holder} {name}", content["schema"], example["value"]


def test_every_example_fits_its_schema() -> None:
    for where, schema, example in examples():
        whole = {**schema, "components": DOCUMENT["components"]}
        validator = jsonschema_rs.Draft202012Validator(whole)
        assert validator.is_valid(example), (
            f"{where}: {[error.message for error in validator.iter_errors(example)]}"
        )


# ---- true to the routes ------------------------------------------------------------------------------


def test_the_document_has_exactly_the_routes() -> None:
    documented = {(method, path, operation["operationId"]) for path, method, operation in operations()}
    routed = {
        (route.method, "/v1" + re.sub(r":(\w+)", r"{\1}", route.pattern), route.operation)
        for route in ROUTES
        if route.versioned
    }
    assert documented == routed
    assert {operation for _, _, operation in documented} == set(OPERATIONS)


def test_path_parameters_are_those_of_the_path() -> None:
    for path, _, operation in operations():
        found = [resolved(parameter) for parameter in operation.get("parameters", [])]
        assert [p["name"] for p in found if p["in"] == "path"] == re.findall(r"{(\w+)}", path)
        names = [(p["in"], p["name"]) for p in found]
        assert len(names) == len(set(names))


def test_access_follows_the_scopes() -> None:
    scopes = {route.operation: {*route.scopes, "admin"} if route.scopes else set() for route in ROUTES}
    for _, _, operation in operations():
        expected = scopes[operation["operationId"]]
        tokens = [name for way in operation["security"] for names in way.values() for name in names]
        _, _, text = operation["description"].partition("\n\nScope: ")

        assert (set(tokens), len(tokens)) == (expected, len(expected))
        assert set(re.findall(r"`(\w+)`", text)) == expected
        assert ({"401", "403"} <= set(operation["responses"])) == bool(expected)
        # A server without tokens asks for none.
        assert ({} in operation["security"]) == bool(expected)


# ---- true to the models ------------------------------------------------------------------------------


def members(model: type[WireModel]) -> set[str]:
    return {field.serialization_alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("model", "name", "missing"),
    [
        (models.Task, "TaskInput", set()),
        (models.Task, "Task", {"defer", "ttl"}),
        (models.Retry, "RetryInput", set()),
        (models.Retry, "Retry", set()),
        (models.Promise, "PromiseInput", set()),
        (models.Promise, "Promise", {"timeout"}),
        (models.Poll, "Poll", set()),
        (models.PollRequest, "PollRequest", set()),
        (models.Extension, "Extension", set()),
        (models.CommitItem, "CommitItem", set()),
        (models.Commit, "Commit", set()),
        (models.Commits, "Commits", set()),
        (models.Tasks, "Tasks", set()),
        (models.Tasks, "TasksInput", {"next"}),
        (models.CommitResult, "CommitResult", set()),
        (models.Topic, "Topic", set()),
        (models.TopicPatch, "TopicPatch", set()),
        (models.TopicStates, "TopicStates", set()),
        (models.Updated, "Updated", set()),
        (models.Deleted, "Deleted", set()),
        (models.Error, "Error", set()),
    ],
)
def test_a_schema_has_the_members_of_its_model(model: type[WireModel], name: str, missing: set[str]) -> None:
    assert set(SCHEMAS[name]["properties"]) == members(model) - missing


def test_what_is_absent_may_be_null_in_requests_and_never_is_in_answers() -> None:
    def takes(name: str, value: Any) -> bool:
        schema = {"$ref": f"#/components/schemas/{name}", "components": DOCUMENT["components"]}
        return jsonschema_rs.Draft202012Validator(schema).is_valid(value)

    answer = {"_id": "1", "topic": "a", "state": 0, "nonce": "", "produced": "x", "scheduled": "x"}
    assert takes("Task", answer)
    for member in members(models.Task) - {"payload", "result"}:
        assert takes("TaskInput", {member: None}), member
        if member not in {"defer", "ttl"}:
            assert not takes("Task", {**answer, member: None}), member
    for member in answer:
        assert not takes("Task", {name: value for name, value in answer.items() if name != member}), member


@pytest.mark.parametrize(
    ("text", "good"),
    [
        *[
            (text, True)
            for text in ("0", "+0", "1s", "1h30m", "1.5ms", ".5s", "1.s", "3us", "3µs", "3μs", "0s", "")
        ],
        *[
            (text, False)
            for text in ("1", "1d", "00", "0 s", "s", ".s", "1h30", " 1s", "1s\n", "1e3s", "-1s")
        ],
    ],
)
def test_the_pattern_of_durations(text: str, good: bool) -> None:
    validator = jsonschema_rs.Draft202012Validator(SCHEMAS["Poll"]["properties"]["wait"])
    assert validator.is_valid(text) == good


@pytest.mark.parametrize(
    ("name", "member", "negative", "none"),
    [
        ("TaskInput", "defer", True, True),
        ("Commit", "defer", True, True),
        ("RetryInput", "delay", False, True),
        ("Poll", "wait", False, True),
        ("Poll", "timeout", False, False),
        ("PromiseInput", "timeout", False, False),
        ("Extension", "timeout", False, False),
        ("TaskInput", "ttl", False, False),
    ],
)
def test_the_bounds_of_durations(name: str, member: str, negative: bool, none: bool) -> None:
    validator = jsonschema_rs.Draft202012Validator(SCHEMAS[name]["properties"][member])
    assert [validator.is_valid(text) for text in ("-5s", "0", "0s", "+0.0h")] == [negative, none, none, none]
    assert validator.is_valid("10.5ms")


# ---- complete ----------------------------------------------------------------------------------------


def test_everything_is_described() -> None:
    for path, method, operation in operations():
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"], where
        assert operation["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}, where
        for status, found in operation["responses"].items():
            assert resolved(found)["description"], f"{where} {status}"
    for name, parameter in DOCUMENT["components"]["parameters"].items():
        assert parameter["description"], name
    for name, schema in SCHEMAS.items():
        assert schema["description"], name
        for member, inner in schema.get("properties", {}).items():
            if name != "TaskItem":
                assert inner["description"], f"{name}.{member}"


def test_every_operation_names_its_errors() -> None:
    for path, method, operation in operations():
        statuses = set(operation["responses"])
        where = f"{method} {path}"
        assert statuses & {"200", "201"}, where
        assert {"405", "408", "431", "500"} <= statuses, where
        assert ("413" in statuses) == ("requestBody" in operation), where
        assert ("400" in statuses) == ("parameters" in operation or "requestBody" in operation), where
        if path.startswith("/v1/topics"):
            assert "503" in statuses, where
        if path.endswith("/{id}") and method in {"GET", "PATCH"}:
            assert "404" in statuses, where


def test_error_examples_say_their_status() -> None:
    for response in DOCUMENT["components"]["responses"].values():
        for example in response["content"]["application/json"]["examples"].values():
            error = example["value"]["error"]
            used = {
                int(status)
                for _, _, operation in operations()
                for status, found in operation["responses"].items()
                if resolved(found) is response
            }
            assert used == {error["code"]}


def test_every_operation_has_examples_of_its_body_and_its_answers() -> None:
    for path, method, operation in operations():
        for found in (operation.get("requestBody", {}), *operation["responses"].values()):
            for content in resolved(found).get("content", {}).values():
                assert content["examples"], f"{method} {path}"
