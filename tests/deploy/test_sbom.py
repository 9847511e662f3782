"""`make sbom` lists what the image's build installs, and nothing else."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.deploy.hashed import FOLDER, REPOSITORY, entries

EXTRAS = ("lightgbm", "s3")


def make(*words: str) -> "subprocess.CompletedProcess[str]":
    command = ["make", "--no-print-directory", *words, f"IMAGE_EXTRAS={','.join(EXTRAS)}"]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=900)


def test_it_reads_the_files_that_the_images_build_reads() -> None:
    (line,) = (line for line in make("--dry-run", "sbom").stdout.splitlines() if line.startswith("cat "))
    build = (REPOSITORY / "Dockerfile").read_text("utf-8")

    assert line.split()[1:4] == [f"requirements/{name}.txt" for name in ("base", *EXTRAS)]
    assert 'for name in base $EXTRAS; do cat "requirements/$name.txt"' in build


@pytest.mark.wide
def test_each_locked_package_is_listed_with_its_version_and_hashes(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    done = make("sbom", f"SBOM={file}")
    if "No matching distribution" in done.stderr or "Could not" in done.stderr:
        pytest.skip("no package index here")
    assert done.returncode == 0, done.stderr

    listed = json.loads(file.read_text("utf-8"))

    locked = {
        (name, re.split(r"[ ;]", text.partition("==")[2])[0]): set(re.findall(r"sha256:(\w+)", text))
        for part in ("base", *EXTRAS)
        for name, text in entries((FOLDER / f"{part}.txt").read_text("utf-8")).items()
    }
    assert (listed["bomFormat"], listed["metadata"]["component"]["name"]) == ("CycloneDX", "scorebeat")
    assert {
        (one["name"], one["version"]): {found["content"] for r in one["externalReferences"] for found in r["hashes"]}
        for one in listed["components"]
    } == locked
