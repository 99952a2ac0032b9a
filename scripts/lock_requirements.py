"""Pin packages at the newest releases within the bounds of `pyproject.toml`; `make lock` runs this.

- `deployments/docker/requirements.txt`: what the server needs, and `requirements-build.txt` beside it: what
  builds the package. The container image installs these, every file known by its hash.
- `constraints.txt`: what `make run`, `make test` and the other targets install into `.venv`, so that they do
  tomorrow what they did today.

Needs `uv`, which resolves for every platform and Python at once, and the network.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
IMAGE = ROOT / "deployments" / "docker"
# The oldest Python that the package supports; markers in the files tell newer ones apart.
OLDEST_PYTHON = "3.11"


def lock(file: Path, requirements: list[str], *, hashes: bool) -> None:
    """Write one file of pins. Raises ``CalledProcessError`` when there is no solution."""
    command = [sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--upgrade", "--universal"]
    command += ["--python-version", OLDEST_PYTHON, "--no-annotate"]
    command += ["--generate-hashes"] if hashes else []
    command += ["--custom-compile-command", "make lock", "--output-file", str(file), "-"]
    subprocess.run(command, input="\n".join(requirements), text=True, cwd=ROOT, check=True)
    print(f"wrote {file.relative_to(ROOT)}")


def main() -> int:
    """Write the files and return the exit code."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = settings["project"]
    # The extra "all" names those that a server may need.
    extras = project["optional-dependencies"]
    (everything,) = map(Requirement, extras.pop("all"))
    server = [*project["dependencies"], *chain(*(extras.pop(name) for name in sorted(everything.extras)))]
    groups = chain(*settings["dependency-groups"].values())
    try:
        lock(IMAGE / "requirements.txt", server, hashes=True)
        lock(IMAGE / "requirements-build.txt", settings["build-system"]["requires"], hashes=True)
        lock(ROOT / "constraints.txt", [*server, *chain(*extras.values()), *groups], hashes=False)
    except subprocess.CalledProcessError as error:
        return error.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
