"""The answers that are not a success, each kind with examples of what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from ratus.core import errors
from scripts.openapi.schemas import reference as schema_reference


@dataclass(frozen=True)
class _Kind:
    """A kind of error: when it is answered, what it may say, and the header that comes with it."""

    description: str
    examples: dict[str, errors.RatusError]
    header: dict[str, dict[str, Any]] | None = None


def _header(name: str, description: str, example: str) -> dict[str, dict[str, Any]]:
    return {name: {"description": description, "schema": {"type": "string"}, "example": example}}


_KINDS: Final = (
    _Kind(
        "The request is malformed, ill-typed or out of bounds. Nothing was changed; sending it again will "
        "not help.",
        {
            "json": errors.BadRequest("JSON is malformed: invalid character (byte 4)"),
            "duration": errors.BadRequest(
                'timeout: invalid duration "1d": unknown unit "d"; write a number with a unit such as 300ms, '
                "1.5s or 1h30m"
            ),
            "bounds": errors.BadRequest("exceeded maximum allowed limit of 100"),
        },
    ),
    _Kind(
        "The server has tokens, and the request carries none of them.",
        {"missing": errors.Unauthorized("send the header Authorization: Bearer TOKEN")},
        _header("WWW-Authenticate", "How to prove who you are.", "Bearer"),
    ),
    _Kind(
        "The token is known, but its scopes do not cover this request.",
        {"scope": errors.Forbidden("this needs a token with the scope consume or admin")},
    ),
    _Kind(
        "There is no such task, topic or claim, or no task is due, or none may be claimed yet.",
        {"missing": errors.NotFound(), "closed": errors.Closed(0)},
        _header(
            "Retry-After",
            "Whole seconds until a claim may succeed, where a rate or a hold does not allow it yet.",
            "1",
        ),
    ),
    _Kind(
        "The path exists, but not with this method. What this operation describes never answers so; other "
        "methods on its path do.",
        {"method": errors.MethodNotAllowed(("GET", "HEAD", "DELETE"))},
        _header("Allow", "The methods that the path has.", "GET, HEAD, DELETE"),
    ),
    _Kind(
        "The request did not arrive in time: its headers within 10 seconds, or its body stood still for 30 "
        "seconds. The connection is closed.",
        {"body": errors.RequestTimeout("the body stood still for 30 s")},
    ),
    _Kind(
        "The id exists already, or the task was changed or claimed by another client. Nothing was changed.",
        {
            "exists": errors.Conflict("a task with the same ID already exists"),
            "nonce": errors.Conflict("the task may have been modified by others"),
            "state": errors.Conflict("the target task is not in pending state"),
        },
    ),
    _Kind(
        "The body is larger than the server's `--max-body-size` (4 MiB), or the batch has more than its "
        "`--max-batch-size` (10,000) items. Nothing was changed.",
        {
            "body": errors.PayloadTooLarge("the body is larger than 4194304 bytes"),
            "batch": errors.PayloadTooLarge("a batch may hold 10000 items, not 10001; send several"),
        },
    ),
    _Kind(
        "The request has more than 64 KiB or more than 100 headers.",
        {"headers": errors.HeadersTooLarge("at most 65536 bytes and 100 fields are taken")},
    ),
    _Kind(
        "A defect of the server; its log has the details.",
        {"defect": errors.InternalError()},
    ),
    _Kind(
        "The server is starting or stopping, or its database cannot be reached. Try again.",
        {"stopping": errors.ServiceUnavailable("the server is stopping; ask again")},
    ),
)


def _type(kind: _Kind) -> type[errors.RatusError]:
    return type(next(iter(kind.examples.values())))


_NAMES: Final = {_type(kind).status: _type(kind).__name__ for kind in _KINDS}


def responses() -> dict[str, dict[str, Any]]:
    """The answers by the name of their error."""
    return {_type(kind).__name__: _response(kind) for kind in _KINDS}


def reference(status: int, description: str = "") -> dict[str, str]:
    """A reference to the answer with this status, with a description of its own if one is given.

    Raises `KeyError` for a status that no error has.
    """
    found = {"$ref": f"#/components/responses/{_NAMES[status]}"}
    return {**found, "description": description} if description else found


def _response(kind: _Kind) -> dict[str, Any]:
    response: dict[str, Any] = {"description": kind.description}
    if kind.header:
        response["headers"] = kind.header
    examples = {
        name: {"value": {"error": {"code": error.status, "message": error.message}}}
        for name, error in kind.examples.items()
    }
    content = {"schema": schema_reference("Error"), "examples": examples}
    return {**response, "content": {"application/json": content}}
