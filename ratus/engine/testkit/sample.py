"""A record kind for tests, with a member of every way in which an engine keeps a value."""

from __future__ import annotations

from msgspec import Struct

from ratus.core.kinds import Kind
from ratus.core.members import RETRY, Boolean, Integer, Json, Member, Object, Text, Time
from ratus.core.records import RetryPolicy
from ratus.testing import START


class Sample(Struct, frozen=True, gc=False):
    """The members of a record of `SAMPLE`."""

    text: str = ""
    number: int = 0
    flag: bool = False
    time: int | None = None
    json: bytes | None = None
    policy: RetryPolicy | None = None


SAMPLE = Kind(
    "samples",
    (
        Member("text", Text(), default=""),
        Member("number", Integer(), default=0),
        Member("flag", Boolean(), default=False),
        Member("time", Time()),
        Member("json", Json()),
        Member("policy", Object("Retry", RETRY, RetryPolicy)),
    ),
    Sample,
)

# Times are whole milliseconds, which every engine keeps.
FULL = Sample(
    text='a"\\\né\U0001f600',
    number=-(2**62),
    flag=True,
    time=START,
    json=b'{"a":[1,null,"\\u0000"],"b":{}}',
    policy=RetryPolicy(max_attempts=3, backoff="linear", delay=1_000, jitter=0.5),
)
"""A record with a value that is not the default in every member."""
