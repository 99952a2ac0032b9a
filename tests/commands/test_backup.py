"""How the backup command tells of its progress."""

from __future__ import annotations

import pytest

from ratus.commands.backup import Progress

MEBIBYTE = 2**20


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("terminal", "expected"),
    [
        (False, ["copied 50% of 100.0 MiB\n", "copied 100% of 100.0 MiB, checking the copy\n"]),
        (
            True,
            [
                f"\r{'copied 25% of 100.0 MiB':<60}",
                f"\r{'copied 50% of 100.0 MiB':<60}",
                f"\r{'copied 75% of 100.0 MiB':<60}",
                f"\r{'copied 100% of 100.0 MiB, checking the copy':<60}",
                "\n",
            ],
        ),
    ],
)
def test_progress_is_told_now_and_then(terminal: bool, expected: list[str]) -> None:
    written: list[str] = []
    clock = Clock()
    progress = Progress(terminal, written.append, clock)
    for part in (1, 25, 26, 50, 75, 100):
        clock.now = {1: 0.1, 25: 5.0, 26: 5.1, 50: 10.0, 75: 15.0, 100: 20.0}[part]
        progress(part * MEBIBYTE, 100 * MEBIBYTE)
    progress.end()
    assert written == expected


def test_a_short_copy_is_not_talked_about() -> None:
    written: list[str] = []
    progress = Progress(True, written.append, Clock())
    progress(0, 0)
    progress(5, 5)
    progress.end()
    assert written == []
    assert progress.total == 5
