"""Write the document into its files: `make openapi`."""

from __future__ import annotations

from scripts.openapi import JSON_FILE, YAML_FILES, build, to_json, to_yaml

if __name__ == "__main__":
    document = build()
    for path in YAML_FILES:
        path.write_text(to_yaml(document), encoding="utf-8")
    JSON_FILE.write_text(to_json(document), encoding="utf-8")
