"""The programs that read what is deployed: this machine's own, or those that `make packages` unpacked."""

import shutil
import subprocess
from pathlib import Path

from tests.deploy.compose import REPOSITORY

UNPACKED = REPOSITORY / ".deploy/usr"
WANTING = "not here: as root on Debian, make packages gets it"


def _first_that_runs(*commands: str) -> list[str]:
    """The words of the first command whose program is here and prints its version; none if there is none."""
    for command in commands:
        program, *words = command.split()
        if (path := shutil.which(program)) is None:
            continue
        if subprocess.run([path, *words, "version"], capture_output=True, check=False, timeout=60).returncode == 0:
            return [path, *words]
    return []


COMPOSE = _first_that_runs("docker compose", f"{UNPACKED}/libexec/docker/cli-plugins/docker-compose")
KUSTOMIZE = _first_that_runs("kustomize", f"{UNPACKED}/bin/kustomize")


def kustomized(folder: Path) -> str:
    """What Kustomize itself makes of the folder."""
    command = [*KUSTOMIZE, "build", str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
