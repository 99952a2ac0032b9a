"""The OpenAPI document of the service, as data and as bytes.

`openapi.yaml` at the top of the repository is the same document, written by `make openapi`.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from ratus.api.openapi.document import document
from ratus.api.openapi.emitter import to_yaml
from ratus.api.routes import ROUTES


def build(version: str) -> dict[str, Any]:
    """The OpenAPI 3.1 document for this version of the program."""
    return document(version, ROUTES)


@lru_cache(maxsize=1)
def json_document(version: str) -> bytes:
    """The document as JSON."""
    return json.dumps(build(version), ensure_ascii=False, separators=(",", ":")).encode()


@lru_cache(maxsize=1)
def yaml_document(version: str) -> bytes:
    """The document as YAML."""
    return to_yaml(build(version)).encode()


__all__ = ["build", "json_document", "yaml_document"]
