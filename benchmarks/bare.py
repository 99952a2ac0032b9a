"""The peer that HTTP figures are ratios to: an ASGI application that parses nothing and answers 150 bytes.

    python -m benchmarks.bare PORT

It runs on the same uvicorn, httptools and uvloop as Ratus: about the most that an ASGI application can do.
"""

from __future__ import annotations

import sys
from typing import Any

import uvicorn

BODY = b"x" * 150
HEADERS = [(b"content-type", b"application/json; charset=utf-8"), (b"content-length", b"150")]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer whatever is asked."""
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": BODY})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=int(sys.argv[1]), http="httptools", loop="uvloop", lifespan="off",
        access_log=False, log_level="warning",
    )  # fmt: skip
