"""Holding an answer that a page shows against a real one."""

from __future__ import annotations

import re
from typing import Any

RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


def compare(shown: Any, real: Any, learnt: dict[str, str], where: str) -> None:
    """Same members, and the same values but for times, nonces, cursors and revisions.

    What a page shows as a nonce, a cursor or a revision is kept in `learnt` with the real one, to be put into
    the commands that follow, and into texts such as messages.
    """
    if isinstance(shown, dict):
        assert isinstance(real, dict), where
        assert sorted(shown) == sorted(real), f"{where}: shown {sorted(shown)}, answered {sorted(real)}"
        for name, value in shown.items():
            if name in ("nonce", "next") and value:
                assert real[name], f"{where}.{name} is empty"
                learnt[value] = real[name]
            elif name == "revision":
                assert isinstance(real[name], int), f"{where}.{name}: {real[name]!r} is no integer"
                learnt[str(value)] = str(real[name])
            else:
                compare(value, real[name], learnt, f"{where}.{name}")
    elif isinstance(shown, list):
        assert isinstance(real, list), where
        assert len(shown) == len(real), where
        for number, (one, other) in enumerate(zip(shown, real, strict=True)):
            compare(one, other, learnt, f"{where}[{number}]")
    elif isinstance(shown, str) and RFC_3339.fullmatch(shown):
        assert RFC_3339.fullmatch(real), f"{where}: {real!r} is no time"
    else:
        if isinstance(shown, str):
            for one, other in learnt.items():
                shown = shown.replace(one, other)
        assert shown == real, f"{where}: shown {shown!r}, answered {real!r}"
