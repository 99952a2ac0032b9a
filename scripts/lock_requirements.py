"""Pin what the container image installs: every package at one version, every file by its hash.

`make lock` runs this. It writes `deployments/docker/requirements.txt`, what the server needs, and
`requirements-build.txt` beside it, what builds the package: the newest releases within the bounds of
`pyproject.toml`. Needs `uv`, which resolves for every platform and Python at once, and the network.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "deployments" / "docker"
# The oldest Python that the package supports; markers in the files tell newer ones apart.
OLDEST_PYTHON = "3.11"


def lock(name: str, requirements: list[str]) -> None:
    """Write one file of pins. Raises ``CalledProcessError`` when there is no solution."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal"]
    command += ["--python-version", OLDEST_PYTHON, "--generate-hashes", "--no-annotate"]
    command += ["--custom-compile-command", "make lock", "--output-file", str(FOLDER / name), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, cwd=ROOT, check=True)
    print(f"wrote {(FOLDER / name).relative_to(ROOT)}")


def main() -> int:
    """Write both files and return the exit code."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    # The extra "all" is made of the others.
    extras = {name: lines for name, lines in project["optional-dependencies"].items() if name != "all"}
    try:
        lock("requirements.txt", [*project["dependencies"], *chain(*extras.values())])
        lock("requirements-build.txt", settings["build-system"]["requires"])
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
