"""Engines ask the state machine what applies to a task; they compare no nonce and no time themselves."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDERS = ("engines/ratus_engines", "examples/engine")

# What guards name, beside the state, which every index asks for.
GUARDED = {"nonce", "deadline", "expires", "committed"}
ORDERED = (ast.Eq, ast.NotEq, ast.Lt, ast.LtE, ast.Gt, ast.GtE)

# Comparisons that decide nothing about a task, by the file they are in.
OTHERS = {
    # Whether waiting polls have to be notified that a task can be claimed sooner.
    ("engines/ratus_engines/sqlite/transaction.py", "task.deadline < before"),
    # What is known of a topic: whether it is time to look for lapsed claims.
    ("engines/ratus_engines/mongodb/claims.py", "view.deadline <= now"),
    ("engines/ratus_engines/mongodb/claims.py", "view.deadline > now"),
    # Whether a commit whose answer was lost has been applied.
    ("engines/ratus_engines/mongodb/commits.py", "task.nonce != commit.nonce"),
}


def comparisons(source: str) -> Iterator[str]:
    """Comparisons of a member that guards name."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and isinstance(node.ops[0], ORDERED):
            sides = (node.left, *node.comparators)
            if any(isinstance(side, ast.Attribute) and side.attr in GUARDED for side in sides):
                yield ast.unparse(node)


def test_comparisons_are_found() -> None:
    source = "if task.expires is not None and task.expires <= now or nonce != task.nonce: f(task.deadline)"
    assert set(comparisons(source)) == {"nonce != task.nonce", "task.expires <= now"}


def test_no_engine_compares_what_a_guard_names() -> None:
    found = {
        (path.relative_to(ROOT).as_posix(), comparison)
        for folder in FOLDERS
        for path in (ROOT / folder).rglob("*.py")
        for comparison in comparisons(path.read_text(encoding="utf-8"))
    }
    assert found == OTHERS, "ask ratus.core.transitions, or say here what else is compared"
