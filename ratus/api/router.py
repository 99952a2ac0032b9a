"""Finds the route of a path by its segments, before anything is percent-decoded."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from operator import itemgetter

from msgspec import Struct

from ratus.api.routes import Route
from ratus.core.errors import MethodNotAllowed, NotFound

# A route, its label in metrics, and the indexes of the segments that are its topic, id and name. The index is
# 0, the empty segment before the first slash, for a variable that the route does not have.
_Entry = tuple[Route, str, int, int, int]

_Methods = dict[str, _Entry]

# A function that picks the literal segments out of a path, and the routes of that shape by those segments.
_Shape = tuple[Callable[[list[bytes]], tuple[bytes, ...]], dict[tuple[bytes, ...], _Methods]]


class Match(Struct):
    """A route, its variables as they stand in the path (empty: it has none), and its label in metrics."""

    route: Route
    topic: bytes
    id: bytes
    name: bytes
    endpoint: str


class Router:
    """The routes by the shape of their paths. Of two that fit, that with more literal segments is taken."""

    def __init__(self, routes: Iterable[Route]) -> None:
        shapes: dict[int, dict[tuple[int, ...], _Shape]] = {}
        for route in routes:
            for pattern in (route.pattern, f"/v1{route.pattern}") if route.versioned else (route.pattern,):
                segments = pattern.split("/")
                literal = tuple(n for n, segment in enumerate(segments) if not segment.startswith(":"))
                of_length = shapes.setdefault(len(segments), {})
                of, table = of_length.setdefault(literal, (itemgetter(*literal), {}))
                methods = table.setdefault(of([segment.encode() for segment in segments]), {})
                topic, id_, name = (
                    segments.index(variable) if variable in segments else 0
                    for variable in (":topic", ":id", ":name")
                )
                methods[route.method] = entry = (route, pattern, topic, id_, name)
                if route.method == "GET":
                    methods["HEAD"] = entry
        self._shapes = {
            length: [of_length[literal] for literal in sorted(of_length, key=len, reverse=True)]
            for length, of_length in shapes.items()
        }

    def match(self, method: str, path: bytes) -> Match:
        """The route for a raw path. Raises `NotFound`, or `MethodNotAllowed` with the methods there are."""
        segments = path.split(b"/")
        for literal, table in self._shapes.get(len(segments), ()):
            methods = table.get(literal(segments))
            if methods is not None:
                break
        else:
            raise NotFound()
        found = methods.get(method)
        if found is None:
            raise MethodNotAllowed((*methods, "OPTIONS"))
        route, endpoint, topic, id_, name = found
        if id_ and not segments[id_]:
            raise NotFound()
        return Match(route, segments[topic], segments[id_], segments[name], endpoint)
