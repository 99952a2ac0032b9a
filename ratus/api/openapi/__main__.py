"""Write the document as YAML: `python -m ratus.api.openapi > openapi.yaml`."""

from __future__ import annotations

import sys

from ratus import __version__
from ratus.api.openapi import yaml_document

if __name__ == "__main__":
    sys.stdout.buffer.write(yaml_document(__version__))
