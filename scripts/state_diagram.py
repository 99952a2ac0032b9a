"""Draw the states of a task and what leads from one to another: docs/assets/states.svg.

    python scripts/state_diagram.py         # writes it anew; a test holds it to this and to the state machine

A picture of its own and no part of a page, so that it is shown the same on the site, in a browser of the
repository and on paper. It has its own ground, and follows the reader's wish for light or dark.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PICTURE: Final = Path(__file__).resolve().parent.parent / "docs/assets/states.svg"
WIDTH, HEIGHT = 960, 400
BOX_WIDTH, BOX_HEIGHT = 140, 56

# The middle of each state's box, and a word on what it is.
STATES: Final = {
    "pending": (170, 170, "waits to be claimed"),
    "active": (470, 170, "being worked on"),
    "completed": (770, 80, "done"),
    "archived": (770, 290, "put aside"),
}


@dataclass(frozen=True)
class Edge:
    """An arrow: from where to where (an empty name is outside), how it runs, and its label, line by line.

    ``forced``: it takes no part in a task's ordinary life; somebody wants it.
    """

    start: str
    end: str
    path: str
    label: tuple[str, ...]
    at: tuple[int, int]
    forced: bool = False


EDGES: Final = (
    Edge("", "pending", "M 20 170 H 96", ("insert",), (56, 160)),
    Edge("pending", "active", "M 240 158 H 396", ("claim",), (318, 148)),
    Edge(
        "active",
        "pending",
        "M 400 184 H 244",
        ("release, give back;", "failure or lapse,", "attempts left"),
        (322, 206),
    ),
    Edge("active", "active", "M 440 142 C 430 96, 510 96, 501 138", ("extend",), (470, 94)),
    Edge("active", "completed", "M 540 158 C 610 150, 620 80, 696 80", ("commit",), (590, 98)),
    Edge(
        "active",
        "archived",
        "M 540 182 C 610 190, 620 280, 696 280",
        ("failure or lapse,", "no attempts left;", "commit with state 3"),
        (712, 192),
    ),
    Edge("pending", "archived", "M 170 198 C 170 290, 240 304, 696 304", ("expires",), (450, 294)),
    Edge(
        "archived",
        "pending",
        "M 770 318 C 770 364, 740 364, 640 364 H 220 C 150 364, 128 300, 128 202",
        ("revived: commit with state 0",),
        (450, 382),
        forced=True,
    ),
    Edge("completed", "", "M 840 80 H 896", ("retention",), (886, 70)),
)

STYLE: Final = """
    .ground { fill: #ffffff; stroke: #d5d8de; }
    .state { fill: #eef3fb; stroke: #3f6fb5; stroke-width: 1.5; }
    .edge { fill: none; stroke: #4a5160; stroke-width: 1.5; marker-end: url(#head); }
    .forced { stroke-dasharray: 6 4; }
    .head { fill: #4a5160; }
    text { font: 14px system-ui, sans-serif; fill: #22262e; text-anchor: middle; }
    .name { font-weight: 600; font-size: 16px; }
    .note { font-size: 12px; fill: #5b6270; }
    @media (prefers-color-scheme: dark) {
      .ground { fill: #1c1f26; stroke: #3a3f4b; }
      .state { fill: #26324a; stroke: #7ea6e6; }
      .edge { stroke: #aab1bf; }
      .head { fill: #aab1bf; }
      text { fill: #e6e8ec; }
      .note { fill: #aab1bf; }
    }
"""


def picture() -> str:
    """The diagram as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        "  <title>The states of a task</title>",
        f"  <desc>{_sentences()}</desc>",
        f"  <style>{STYLE}  </style>",
        '  <defs><marker id="head" viewBox="0 0 10 10" refX="8" refY="5" markerWidth="8" markerHeight="8" '
        'orient="auto"><path class="head" d="M 0 0 L 10 5 L 0 10 z"/></marker></defs>',
        f'  <rect class="ground" x="0.5" y="0.5" width="{WIDTH - 1}" height="{HEIGHT - 1}" rx="8"/>',
    ]
    for name, (x, y, note) in STATES.items():
        left, top = x - BOX_WIDTH // 2, y - BOX_HEIGHT // 2
        parts += [
            f'  <rect class="state" x="{left}" y="{top}" width="{BOX_WIDTH}" height="{BOX_HEIGHT}" rx="8"/>',
            f'  <text class="name" x="{x}" y="{y - 3}">{name}</text>',
            f'  <text class="note" x="{x}" y="{y + 16}">{note}</text>',
        ]
    for edge in EDGES:
        kind = "edge forced" if edge.forced else "edge"
        parts.append(f'  <path class="{kind}" d="{edge.path}"/>')
        x, y = edge.at
        parts += [f'  <text x="{x}" y="{y + 17 * n}">{line}</text>' for n, line in enumerate(edge.label)]
    parts += ['  <text class="note" x="926" y="84">deleted</text>', "</svg>"]
    return "\n".join(parts) + "\n"


def _sentences() -> str:
    """The arrows in words, for those who cannot see them."""
    said = []
    for edge in EDGES:
        where = f"from {edge.start} " if edge.start else ""
        said.append(f"{' '.join(edge.label)}: {where}to {edge.end or 'deleted'}.")
    return " ".join(said)


def main() -> int:
    """Write the picture; the exit code."""
    PICTURE.write_text(picture(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
