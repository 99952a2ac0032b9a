"""The trace context that a request comes with, for tasks that bring none of their own."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ratus.core.members import TRACE
from ratus.core.records import Rare

# Not the baggage: what a proxy or a page puts into it would be kept with every task.
_NAMES = ("traceparent", "tracestate")


def trace_of(headers: Mapping[bytes, bytes]) -> Rare | None:
    """The trace context in these headers as the rare members of a task; ``None`` without a ``traceparent``.

    A malformed ``tracestate`` is ignored, a malformed ``traceparent`` together with its ``tracestate``.
    """
    texts: dict[str, str] = {}
    for name in _NAMES:
        text = headers.get(name.encode())
        if text is not None and _is_well_formed(with_it := {**texts, name: text.decode("latin-1")}):
            texts = with_it
        elif not texts:
            return None
    return Rare(trace=msgspec.json.encode(texts))


def _is_well_formed(texts: Mapping[str, str]) -> bool:
    try:
        TRACE.check(texts)
    except ValueError:
        return False
    return True
