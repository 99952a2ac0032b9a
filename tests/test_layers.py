"""The packages for programs that use the queue stand on each other in one direction."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

MAY_IMPORT = {
    "calls": {"calls", "core"},
    "worker": {"worker", "calls", "core"},
    "client": {"client", "worker", "calls", "core"},
    # A server within the program, and that of a test.
    "app": {"app", "client", "worker", "calls", "core", "runtime", "testing"},
}
"""What the files of a package import of Ratus, those behind `TYPE_CHECKING` included."""


def imports(path: Path) -> Iterator[str]:
    """The modules that a file imports, wherever in the file that stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            if node.module != "ratus":  # which has the version, and loads the rest when it is asked for
                yield str(node.module)
                yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_a_package_imports_only_what_stands_below_it(package: str) -> None:
    for path in (ROOT / "ratus" / package).rglob("*.py"):
        parts = [name.split(".")[1] for name in imports(path) if name.startswith("ratus.")]
        assert set(parts) <= MAY_IMPORT[package], path.relative_to(ROOT)


def test_no_file_of_a_package_imports_itself_by_others() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for package in MAY_IMPORT
        for path in (ROOT / "ratus" / package).rglob("*.py")
        if path.name != "__init__.py"
    }
    arrows = {name: {found for found in imports(path) if found in files} for name, path in files.items()}
    for _ in files:
        ends = {name for name, targets in arrows.items() if not targets}
        arrows = {name: targets - ends for name, targets in arrows.items() if name not in ends}
    assert not arrows, "these files import each other, or what does"


@pytest.mark.parametrize(
    "module",
    ["ratus.worker.threads", "ratus.worker.coroutines", "ratus.calls.delivery", "ratus.app.functions"],
)
def test_a_module_can_be_imported_before_every_other(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import {module}"], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
