"""A server and clients, as for the tests of the client."""

from __future__ import annotations

from tests.client.conftest import kind, live, ratus, server

__all__ = ["kind", "live", "ratus", "server"]
