"""The OpenAPI document, put together from the routes, the models and the words of the operations."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from ratus.api.routes import ADMIN, Route
from scripts.openapi import parameters, responses
from scripts.openapi.operations import OPERATIONS, TAGS, Answer, Body, Operation
from scripts.openapi.schemas import reference, schemas

PREFIX: Final = "/v1"
"""The paths are documented with this prefix; each exists without it too."""

_SEGMENT: Final = re.compile(r":(\w+)")

# What any request may be answered: its method is wrong, it comes too slowly, it has too many headers, or the
# server has a defect.
_ALWAYS: Final = (405, 408, 431, 500)

_DESCRIPTION: Final = """\
A queue that any program can use: producers push **tasks** into **topics**, consumers make a **promise** to
run one before a deadline, and **commit** the outcome. A promise that is not kept lapses, and the task is
handed out again.

```sh
curl -X POST localhost:8000/v1/topics/example/tasks/1 -d '{"payload": {"url": "https://example.com/"}}'
curl -X POST localhost:8000/v1/topics/example/promises -d '{"timeout": "30s"}'
curl -X PATCH localhost:8000/v1/topics/example/tasks/1 -d '{"nonce": "the nonce of the answer"}'
```

**Paths.** Each exists twice, with and without `/v1`. Segments are matched before they are decoded: an id
`a/b` travels as `a%2Fb` and is one segment. `HEAD` works wherever `GET` does.

**Bodies** are JSON in UTF-8, whatever the `Content-Type` says. Members and query parameters that are not
known are ignored, a name in the wrong case is not known, and `null` and an empty parameter mean absent. A
wrong type, a broken or trailing byte, a name twice in one object, an unknown state: 400, and nothing is
changed. Of a parameter that stands twice the first counts, but for `label.…` and `where.…`. In a change of a
topic unknown members are refused, and so are unknown parameters of a list of lanes.

**Times** are RFC 3339, with any offset and up to nanoseconds (kept to the microsecond); answers are in UTC
with `Z`. **Durations** (the format `go-duration`) are those of Go: `300ms`, `1.5s`, `1h30m`, `0`; `1d` and
`10` are none.

**Errors** look alike: `{"error": {"code": 404, "message": "not found"}}`, where `code` is the HTTP status.
The message begins with the kind of error.

**Access.** A server may be started with tokens. Then every request but those to the probes and to this page
needs `Authorization: Bearer TOKEN`, and a token may be limited to some of the scopes `produce`, `consume`,
`read` and `admin`. Each operation says which it needs.

The bounds given here are those of a server with default settings. This document is served as `/openapi.json`
and `/openapi.yaml`."""


def document(version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The OpenAPI 3.1 document of these routes for this version of the program.

    What serves the document itself, and so has no version in its path, is left out. Raises `KeyError` for a
    route whose operation nobody has described.
    """
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        if not route.versioned:
            continue
        path = PREFIX + _SEGMENT.sub(r"{\1}", route.pattern)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Ratus",
            "summary": "A RESTful asynchronous task queue",
            "description": _DESCRIPTION,
            "version": version,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        # Relative to where this document is read, so that a proxy may serve all under a path of its own.
        "servers": [{"url": "./", "description": "This server"}],
        "security": [{"bearer": []}, {}],
        "tags": list(TAGS),
        "paths": paths,
        "components": {
            "schemas": {**schemas(), "Metrics": {"type": "string", "description": "Metrics as text."}},
            "parameters": parameters.parameters(),
            "responses": responses.responses(),
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "One of the server's tokens. A server without tokens asks for none.",
                }
            },
        },
    }


def _operation(route: Route) -> dict[str, Any]:
    words = OPERATIONS[route.operation]
    found: dict[str, Any] = {
        "operationId": route.operation,
        "tags": [words.tag],
        "summary": words.summary,
        "description": words.description,
    }
    scopes = tuple(dict.fromkeys((*route.scopes, ADMIN))) if route.scopes else ()
    if scopes:
        found["description"] += f"\n\nScope: {' or '.join(f'`{scope}`' for scope in scopes)}."
        found["security"] = [*({"bearer": [scope]} for scope in scopes), {}]
    else:
        found["security"] = []
    keys = (*_SEGMENT.findall(route.pattern), *words.query)
    if keys:
        found["parameters"] = [parameters.reference(key) for key in keys]
    if words.body:
        found["requestBody"] = _body(words.body)
    found["responses"] = {str(status): _answer(answer) for status, answer in words.answers.items()}
    for status, description in sorted(_errors(route, words).items()):
        found["responses"][str(status)] = responses.reference(status, description)
    return found


def _errors(route: Route, words: Operation) -> dict[int, str]:
    """The errors that a route may answer, with what they mean there where that is special."""
    statuses = set(_ALWAYS)
    if route.scopes:
        statuses |= {401, 403}
    if words.tag != "service":
        statuses.add(503)
    if words.body or words.query or ":" in route.pattern:
        statuses.add(400)
    if words.body:
        statuses.add(413)
    return dict.fromkeys(statuses, "") | dict(words.errors)


def _body(body: Body) -> dict[str, Any]:
    schema: dict[str, Any] = reference(body.schema)
    if body.nullable:
        schema = {"anyOf": [schema, {"type": "null"}]}
    content = {"schema": schema, "examples": _examples(body.examples)}
    return {
        "description": body.description,
        "required": body.required,
        "content": {"application/json": content},
    }


def _answer(answer: Answer) -> dict[str, Any]:
    if not answer.schemas:
        return {"description": answer.description}
    alternatives = [reference(name) for name in answer.schemas]
    schema = alternatives[0] if len(alternatives) == 1 else {"anyOf": alternatives}
    content = {"schema": schema, "examples": _examples(answer.examples)}
    return {"description": answer.description, "content": {answer.content_type: content}}


def _examples(examples: Any) -> dict[str, Any]:
    return {name: {"value": value} for name, value in examples.items()}
