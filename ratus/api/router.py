"""Finds the route of a path, segment by segment, before anything is percent-decoded."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from ratus.api.routes import Route
from ratus.core.errors import MethodNotAllowed, NotFound

_VERSION = b"v1"

# A path's shape: its segments, None where the route has a variable.
_Shape = tuple[bytes | None, ...]


# A route, its label in metrics, and whether its variable is a name and no topic.
_Entry = tuple[Route, str, bool]


class Match(Struct):
    """A route, its variables as they stand in the path (empty: it has none), and its label in metrics."""

    route: Route
    topic: bytes
    task_id: bytes
    name: bytes
    endpoint: str


class RouteTable:
    """The routes by shape and method."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._plain: dict[_Shape, dict[str, _Entry]] = {}
        self._versioned: dict[_Shape, dict[str, _Entry]] = {}
        for route in routes:
            shape = tuple(
                None if segment.startswith(":") else segment.encode()
                for segment in route.pattern[1:].split("/")
            )
            named = route.pattern.endswith("/:name")
            self._plain.setdefault(shape, {})[route.method] = (route, route.pattern, named)
            if route.versioned:
                self._versioned.setdefault(shape, {})[route.method] = (route, f"/v1{route.pattern}", named)
        for table in (self._plain, self._versioned):
            for methods in table.values():
                if "GET" in methods:
                    methods["HEAD"] = methods["GET"]

    def match(self, method: str, path: bytes) -> Match:
        """The route for a raw path. Raises `NotFound`, or `MethodNotAllowed` with the methods there are."""
        segments = path.split(b"/")
        table = self._plain
        start = 1
        if len(segments) > 2 and segments[1] == _VERSION:
            table = self._versioned
            start = 2
        count = len(segments) - start
        if segments[0] or count > 4:
            raise NotFound()
        topic = segments[start + 1] if count > 1 else b""
        task_id = segments[start + 3] if count > 3 else b""
        if count == 1:
            shape: _Shape = (segments[start],)
        elif count == 2:
            shape = (segments[start], None)
        elif count == 3:
            shape = (segments[start], None, segments[start + 2])
        else:
            shape = (segments[start], None, segments[start + 2], None)
            if not task_id:
                raise NotFound()
        methods = table.get(shape)
        if methods is None:
            raise NotFound()
        found = methods.get(method)
        if found is None:
            raise MethodNotAllowed((*methods, "OPTIONS"))
        route, endpoint, named = found
        if named:
            return Match(route, b"", b"", topic, endpoint)
        return Match(route, topic, task_id, b"", endpoint)
