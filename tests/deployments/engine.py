"""A real container engine for the tests: Podman, with everything it keeps in a folder of its own.

Images come from nowhere but this machine and its package archive: what the Dockerfile calls
`python:3.13-slim-trixie` is here made of the packages of Debian 13, which has Python 3.13 too, and the image
of MongoDB of the program that the other tests use.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.deployments.tools import ROOT, absent, need
from tests.engines.mongodb.servers import ABSENT as MONGOD_ABSENT
from tests.engines.mongodb.servers import mongod

PYTHON = "docker.io/library/python:3.13-slim-trixie"
RATUS = "localhost/ratus:latest"
MONGODB = "localhost/mongodb:latest"
VERSION, REVISION = "9.8.7", "0123abc"

# Everything takes seconds, but on a busy machine; a build downloads packages besides.
PATIENCE = 90
BUILD_PATIENCE = 300

# Besides Python, what the real base image has and the Dockerfile uses.
_PACKAGES = "base-files,base-passwd,bash,coreutils,dash,libc-bin,python3,python3-venv"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"


def require() -> None:
    """Skip the test where there can be no engine."""
    # aardvark-dns and netavark are found by Podman in a folder of its own.
    for program in ("podman", "runc", "mmdebstrap", "iptables"):
        need(program)
    if os.geteuid() != 0:
        absent("building images and running containers takes root here")


class Engine:
    """Podman on storage of its own. `folder` should have a short path: sockets have theirs in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        settings: dict[str, dict[str, Any]] = {
            # A container may have no more than this process, which may be less than Podman's default.
            "containers": {"default_ulimits": ["nofile=1024:1024", "nproc=4096:4096"]},
            "engine": {
                "runtime": "runc",
                "cgroup_manager": "cgroupfs",
                "events_logger": "file",
                "lock_type": "file",
                "tmp_dir": str(folder / "tmp"),
            },
            "network": {"network_backend": "netavark", "network_config_dir": str(folder / "networks")},
        }
        lines = []
        for section, values in settings.items():
            lines += [f"[{section}]", *(f"{name} = {json.dumps(value)}" for name, value in values.items())]
        (folder / "containers.conf").write_text("\n".join(lines))
        (folder / "registries.conf").write_text('unqualified-search-registries = ["docker.io"]\n')
        self.environment = os.environ | {
            "CONTAINERS_CONF": str(folder / "containers.conf"),
            "CONTAINERS_REGISTRIES_CONF": str(folder / "registries.conf"),
        }
        self.command = [need("podman"), "--log-level", "fatal", "--storage-driver", "overlay"]
        self.command += ["--root", str(folder / "root"), "--runroot", str(folder / "run")]

    def run(
        self, *arguments: str, check: bool = True, patience: float = PATIENCE
    ) -> subprocess.CompletedProcess[str]:
        """One command of Podman, of so many seconds at most; it has to succeed, unless `check` is false."""
        done = subprocess.run(
            [*self.command, *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=patience,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"podman {' '.join(arguments)}\n{done.stdout}{done.stderr}"
        return done

    def inspect(self, name: str) -> Any:
        """All about a container or an image."""
        [found] = json.loads(self.run("inspect", name).stdout)
        return found

    def has(self, image: str) -> bool:
        """Whether there is an image of this name."""
        return self.run("image", "exists", image, check=False).returncode == 0

    def build(self, file: Path, tag: str, *arguments: str) -> None:
        """Build an image from the root of the repository, with what is there."""
        options = ["--format", "docker", "--network", "host", "--pull=never", "--file", str(file)]
        self.run("build", *options, "--tag", tag, *arguments, str(ROOT), patience=BUILD_PATIENCE)

    def build_ratus(self) -> None:
        """The image of the Dockerfile, if it is not there yet."""
        if not self.has(RATUS):
            self._import(self._make_python, PYTHON)
            arguments = (f"VERSION={VERSION}", f"REVISION={REVISION}")
            options = [part for each in arguments for part in ("--build-arg", each)]
            self.build(ROOT / "deployments/docker/Dockerfile", RATUS, *options)

    def build_mongodb(self) -> None:
        """An image with what a compose file asks of MongoDB's, if it is not there yet."""
        if not self.has(MONGODB):
            self._import(self._make_mongodb, MONGODB, "--change", "ENV PATH=/usr/bin")

    def _import(self, make: Any, tag: str, *options: str) -> None:
        root = self._folder / "image"
        root.mkdir()
        make(root)
        archive = self._folder / "image.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True)
        self.run("import", *options, str(archive), tag)
        shutil.rmtree(root)
        archive.unlink()

    def _make_python(self, root: Path) -> None:
        command = [
            need("mmdebstrap"),
            "--quiet",
            "--variant=extract",
            f"--include={_PACKAGES}",
            "trixie",
            str(root),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=BUILD_PATIENCE)
        assert done.returncode == 0, done.stderr
        # What the packages' scripts would have done; they are not run.
        for name in ("passwd", "group"):
            shutil.copy(root / f"usr/share/base-passwd/{name}.master", root / f"etc/{name}")
        (root / "usr/local/bin").mkdir(parents=True)
        (root / "usr/local/bin/python3").symlink_to("../../bin/python3")
        # Packages are fetched as this machine fetches them.
        for name in (_CERTIFICATES, "etc/pip.conf"):
            if Path("/", name).exists():
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(Path("/", name), root / name)

    def _make_mongodb(self, root: Path) -> None:
        server = mongod() or absent(MONGOD_ABSENT)
        for program in (server, need("bash")):
            copies = {program: f"usr/bin/{Path(program).name}"}
            shown = subprocess.run([need("ldd"), program], capture_output=True, text=True, check=True).stdout
            copies |= {library: library[1:] for library in re.findall(r"(/\S+) \(0x", shown)}
            for source, target in copies.items():
                (root / target).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, root / target)
        (root / "tmp").mkdir(mode=0o777)
        (root / "tmp").chmod(0o1777)
        for name in ("data/db", "data/configdb"):
            (root / name).mkdir(parents=True)
            # The user of MongoDB's image.
            os.chown(root / name, 999, 999)

    @contextlib.contextmanager
    def serving_docker(self) -> Iterator[dict[str, str]]:
        """The interface of Docker, for its clients: the variables that tell them where it is."""
        path = self._folder / f"docker-{os.getpid()}.sock"
        command = [*self.command, "system", "service", "--time", "0", f"unix://{path}"]
        with subprocess.Popen(
            command, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ) as service:
            try:
                deadline = time.monotonic() + PATIENCE
                while not path.exists():
                    assert service.poll() is None, "podman system service has ended"
                    assert time.monotonic() < deadline, "podman system service does not listen"
                    time.sleep(0.02)  # nothing tells when it listens
                yield {"DOCKER_HOST": f"unix://{path}"}
            finally:
                service.terminate()
                service.wait()
                path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def checking_health(self) -> Iterator[None]:
        """Run the health checks of running containers, again and again until the block ends.

        Podman leaves that to timers of systemd, which need not be there.
        """
        ended = threading.Event()

        def check() -> None:
            while not ended.wait(0.3):
                for name in self.run("ps", "--quiet").stdout.split():
                    self.run("healthcheck", "run", name, check=False)

        thread = threading.Thread(target=check)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def remove(self) -> None:
        """End and remove whatever is left, and the folder."""
        self.run("rm", "--all", "--force", "--time", "0", check=False)
        self.run("unmount", "--all", check=False)
        shutil.rmtree(self._folder)
