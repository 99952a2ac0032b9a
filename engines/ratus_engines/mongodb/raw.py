"""The class of undecoded documents, with the methods that the driver itself calls on them.

An answer to a write can carry a write concern error beside the labels that say whether to try again. The
driver puts the labels into the document of the error, which has this class like every other document of the
answer. A plain `RawBSONDocument` can be neither changed nor copied: the driver would fail, not try again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bson
from bson.raw_bson import RawBSONDocument


class RawDocument(RawBSONDocument):
    """A `RawBSONDocument` to which members can be added, and that can be copied into a dictionary."""

    def update(self, members: Mapping[str, Any]) -> None:
        """Add members, or replace those of the same name."""
        RawBSONDocument.__init__(self, bson.encode({**self, **members}))

    def copy(self) -> dict[str, Any]:
        """The members in a dictionary."""
        return dict(self)
