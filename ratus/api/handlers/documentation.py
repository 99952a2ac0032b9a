"""Handlers of the pages about the API, and of its specification."""

from __future__ import annotations

import asyncio

from ratus.api import docs
from ratus.api.call import VARY, Call, Response
from ratus.core.errors import NotFound

_DOCUMENT_HEADERS = (
    *((name.lower().encode(), value.encode()) for name, value in docs.HEADERS.items()),
    VARY,
)


class DocumentationHandlers:
    """Pages to read and try the API at the server's address."""

    async def get_docs(self, call: Call) -> Response:
        return _document(call, *docs.page(gzip=call.takes_gzip))

    async def get_asset(self, call: Call) -> Response:
        # The first time, reading and compressing more than a megabyte takes a moment.
        found = await asyncio.to_thread(docs.asset, call.name, gzip=call.takes_gzip)
        if found is None:
            raise NotFound()
        return _document(call, *found)

    async def get_openapi_json(self, call: Call) -> Response:
        return Response(200, docs.specification("json"))

    async def get_openapi_yaml(self, call: Call) -> Response:
        content_type = b"application/yaml; charset=utf-8"
        return Response(200, docs.specification("yaml"), content_type=content_type)


def _document(call: Call, body: bytes, content_type: str) -> Response:
    return Response(200, body, content_type.encode(), _DOCUMENT_HEADERS, compressed=call.takes_gzip)
