"""Compare the packages of this environment with the known vulnerabilities.

    python scripts/audit.py [--ignore-vuln ID ...]      # flags go to pip-audit

A finding is a failure. That the service with the advisories cannot be reached is none, so that work goes on
without a network, but it is said: then nothing was compared.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import Any, Final

# One question a package, answered in a tenth of a second; a network that swallows everything ends here.
SECONDS: Final = 180

# What pip-audit ends with when it cannot ask; it has no exit code of its own for that.
UNREACHABLE: Final = re.compile(r"^[\w.]*(Connection|Proxy|Service|SSL|Timeout)\w*: .*", re.MULTILINE)


def judge(output: str, errors: str) -> tuple[list[str], int]:
    """What is to be said of a run of pip-audit, and the exit code. Raises `ValueError` for what is no run."""
    try:
        found: list[dict[str, Any]] = json.loads(output)["dependencies"]
    except (ValueError, KeyError, TypeError):
        if reasons := list(UNREACHABLE.finditer(errors)):
            return [f"SKIPPED, nothing was compared: the advisories cannot be had: {reasons[-1][0]}"], 0
        raise ValueError(f"pip-audit failed:\n{output}{errors}") from None
    lines = []
    for package in found:
        for vulnerability in package.get("vulns", ()):
            fixed = ", ".join(vulnerability["fix_versions"]) or "no release yet"
            lines.append(f"{package['name']} {package['version']}: {vulnerability['id']}, fixed in {fixed}")
    if lines:
        return lines, 1
    skipped = [package["name"] for package in found if "skip_reason" in package]
    compared = len(found) - len(skipped)
    if not compared:
        return [
            f"SKIPPED, nothing was compared: the advisory service knows none of the {len(found)} packages, "
            "so it has no advisories"
        ], 0
    if skipped:
        lines.append(f"not compared, as the service does not know them: {', '.join(skipped)}")
    return [*lines, f"no known vulnerability in {compared} packages"], 0


def main() -> int:
    """Run pip-audit and report; the exit code."""
    command = [
        sys.executable,
        "-m",
        "pip_audit",
        "--format=json",
        "--progress-spinner=off",
        "--skip-editable",
    ]
    try:
        done = subprocess.run(
            [*command, *sys.argv[1:]], capture_output=True, text=True, timeout=SECONDS, check=False
        )
        lines, code = judge(done.stdout, done.stderr)
    except subprocess.TimeoutExpired:
        lines, code = [f"SKIPPED, nothing was compared: no answer within {SECONDS} s"], 0
    except ValueError as error:
        lines, code = [str(error)], 1
    for line in lines:
        print(f"audit: {line}", file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
