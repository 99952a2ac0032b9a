"""What the document cannot say about requests: which of the valid values make sense together.

Read by schemathesis itself, in a process of its own.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import strategies as st

AnyCase = schemathesis.Case[Any]

# Deadlines and expiries must lie ahead. Offsets and fractions are drawn too.
TIMES = st.builds(
    "{:04d}-{:02d}-{:02d}T{:02d}:{:02d}:{:02d}{}{}".format,
    st.integers(2100, 9998),
    st.integers(1, 12),
    st.integers(1, 28),
    st.integers(0, 23),
    st.integers(0, 59),
    st.integers(0, 59),
    st.sampled_from(["", ".5", ".123456", ".123456789"]),
    st.sampled_from(["Z", "+00:00", "-23:59", "+08:00"]),
)

# Timeouts must be more than 0; and none is long, for a `wait` is waited for.
DURATIONS = st.sampled_from(["1ms", "2.5ms", "300us", "1µs", "+1ms", ".001s", "0h0m0.001s", "1ms1us"])


schemathesis.openapi.format("date-time", TIMES)
schemathesis.openapi.format("go-duration", DURATIONS)


@schemathesis.hook
def map_case(context: schemathesis.HookContext, case: AnyCase) -> AnyCase:
    """Make what must agree agree: the id in a body is that of the path, and no cursor is made up."""
    body: Any = case.body
    if isinstance(body, dict) and isinstance(body.get("_id"), str) and "id" in case.path_parameters:
        body["_id"] = case.path_parameters["id"]
    if case.query and case.query.get("after"):
        del case.query["after"]
    return case
