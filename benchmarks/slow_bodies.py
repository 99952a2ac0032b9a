"""Looks for bodies that take long: changes the structure of JSON texts at random and keeps what costs more.

  python -m benchmarks.slow_bodies                        a minute, from a seed that it prints
  python -m benchmarks.slow_bodies --seed 7 --seconds 600

The cost of a body is counted, in calls of functions while it is read in slices, so it is the same in every
run and on every machine; a slice that makes too many calls is a finding, and so is a body that costs too
much for each byte. The shape of a body is a small tree that is repeated until the body is large, since what
is slow is what can be repeated. The exit code is 1 where a bound was passed.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

from ratus.api import large
from ratus.api.parsing import TASK_MEMBERS
from ratus.core.errors import BadRequest, PayloadTooLarge

SIZE = 48 * 1024
"""Bytes of a body that is tried: a few slices."""
MOST_CALLS = 8_000
"""In one slice: a call takes up to half a microsecond, so this is about four milliseconds."""
MOST_PER_BYTE = 5.0
"""Calls for one byte: twice what the densest text of brackets and numbers needs that was found so far."""
KEPT = 20

LEAVES = (
    *(
        b"0",
        b"-1",
        b"1e308",
        b"1.79e308",
        b"-1.5e-320",
        b"9" * 40,
        b"9" * 101,
        b"0." + b"3" * 30,
        b"true",
        b"null",
    ),
    *(
        b'""',
        b'"a"',
        b'"\\n"',
        b'"\\u0041"',
        b'"\\ud83e\\uddea"',
        b'"[{"',
        '"é"'.encode(),
        b"[]",
        b"{}",
        b" 1",
        b"\n\t2 ",
    ),
)
WRAPPINGS = (
    *(
        (b"[", b"]"),
        (b"[ ", b" ]"),
        (b'{"":', b"}"),
        (b'{"a" : ', b"}"),
        (b'{"\\"":', b"}"),
        (b"[1,", b"]"),
        (b"[", b",1]"),
    ),
    *(
        (b'{"a":1,"b":', b"}"),
        (b"[[", b"]]"),
        (b"[" * 9, b"]" * 9),
        (b'{"payload":', b"}"),
        (b'{"retry":{"x":', b"}}"),
    ),
)
FRAMES = (
    (b'{"payload":[', b"0]}", None),
    (b'{"x":[', b"0]}", None),
    (b'{"result":{"a":[', b"0]}}", None),
    (b'{"data":[', b"{}]}", 10_000),
    (b'{"data":[{"_id":"1","payload":[', b"0]}]}", 10_000),
)


@dataclass(frozen=True)
class Shape:
    """A part that is repeated, in a frame."""

    part: bytes
    frame: int

    def body(self, size: int) -> tuple[bytes, int | None]:
        """A body of about so many bytes, and how many items it may hold where it is a batch."""
        before, after, most = FRAMES[self.frame]
        part = self.part + b","
        return before + part * max(1, size // len(part)) + after, most


@dataclass(frozen=True)
class Cost:
    """What reading a body cost: calls in the worst slice, and in all for each byte."""

    longest: int
    per_byte: float


def cost(shape: Shape, size: int = SIZE) -> Cost:
    """Read a body of this shape in slices, counting calls."""
    body, most = shape.body(size)
    calls = 0

    def count(frame: FrameType, event: str, argument: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call"):
            calls += 1

    work = large.opened(body, TASK_MEMBERS, most)
    longest, total = 0, 0
    before = sys.getprofile()
    with contextlib.suppress(BadRequest, PayloadTooLarge):
        ended = False
        while not ended:
            calls = 0
            sys.setprofile(count)
            try:
                ended = next(work, work) is work
            finally:
                sys.setprofile(before)
                longest, total = max(longest, calls), total + calls
    return Cost(longest, total / len(body))


def is_slow(costs: Cost) -> bool:
    """Whether a bound was passed."""
    return costs.longest > MOST_CALLS or costs.per_byte > MOST_PER_BYTE


def _changed(shape: Shape, draw: random.Random) -> Shape:
    """A shape beside this one."""
    part, frame = shape.part, shape.frame
    kind = draw.randrange(6)
    if kind == 0:
        frame = draw.randrange(len(FRAMES))
    elif kind == 1:
        part = draw.choice(LEAVES)
    elif kind == 2 or len(part) > 2_000:
        part = part[: len(part) // 2] if kind != 2 else part + b"," + draw.choice(LEAVES)
    elif kind == 3:
        part = part + b"," + part
    else:
        opening, closing = draw.choice(WRAPPINGS)
        part = opening + part + closing
    return Shape(part, frame)


def search(seed: int, seconds: float, tries: int | None = None) -> list[tuple[Cost, Shape]]:
    """The costliest shapes that were found, the worst first."""
    draw = random.Random(seed)
    best = [(cost(shape), shape) for shape in (Shape(leaf, 0) for leaf in LEAVES)]
    seen = {shape for _, shape in best}
    end = time.monotonic() + seconds
    while (tries is None or tries > 0) and time.monotonic() < end:
        tries = None if tries is None else tries - 1
        shape = _changed(draw.choice(best)[1], draw)
        if shape not in seen:
            seen.add(shape)
            best.append((cost(shape), shape))
            best.sort(key=lambda found: (found[0].per_byte, found[0].longest), reverse=True)
            del best[KEPT:]
    return best


def main(arguments: Sequence[str]) -> int:
    """See the module's text."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.slow_bodies",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=None, help="repeats a search")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to look")
    parser.add_argument("--tries", type=int, default=None, help="how many bodies to try at most")
    given = parser.parse_args(arguments)
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}")
    found = search(seed, given.seconds, given.tries)
    for costs, shape in found[:10]:
        text = FRAMES[shape.frame][0] + shape.part[:80]
        print(f"{costs.per_byte:6.2f} calls a byte, {costs.longest:6} in a slice: {text!r}")
    slow = [shape for costs, shape in found if is_slow(costs)]
    for shape in slow:
        print(f"over the bound: {shape}", file=sys.stderr)
    return 1 if slow else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
