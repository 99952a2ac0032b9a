"""`python -m ratus` is the `ratus` command."""

from __future__ import annotations

import sys

from ratus.cli import main

if __name__ == "__main__":
    sys.exit(main())
