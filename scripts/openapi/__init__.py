"""The OpenAPI document of the service, put together from its routes and models and from the words in here.

`make openapi` writes it: for readers of the repository as `openapi.yaml`, and into the package as YAML and as
JSON, from where a server sends it. No server imports anything of this.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import yaml

from ratus import __version__
from ratus.api.routes import ROUTES
from scripts.openapi.document import document

TOP: Final = Path(__file__).resolve().parents[2]

YAML_FILES: Final = (TOP / "openapi.yaml", TOP / "ratus/api/assets/openapi.yaml")
JSON_FILE: Final = TOP / "ratus/api/assets/openapi.json"

_LINE: Final = 110
"""Characters of a line of YAML, where its words allow it."""


def build() -> dict[str, Any]:
    """The OpenAPI 3.1 document for this version of the program."""
    return document(__version__, ROUTES)


def to_json(document: dict[str, Any]) -> str:
    """The document as JSON, as compact as it can be."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def to_yaml(document: dict[str, Any]) -> str:
    """The document as YAML for readers: members in their order, and texts of several lines as such."""
    text: str = yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_LINE)
    return text


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        """What occurs twice is written twice: a reader should not have to look for an anchor."""
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _text)
