"""A burst of one's own jobs, made as documented: nothing of the example is left in it."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]  # publishes no types

from tests.deploy.kustomize import render
from tests.deploy.manifests import PAGE, ROOT, named, of_kind, ours
from tests.deploy.packages import KUSTOMIZE, WANTING, kustomized
from tests.docs.pages import Page, commands

JOBS = """
[jobs.churn]
query = "SELECT id, visits FROM customers"
key = "id"
model = "churn"
"""


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """The folder of a reader who typed what the page shows, beside a copy of this repository's."""
    shutil.copytree(ROOT, tmp_path / "scorebeat/deploy/kubernetes")
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "jobs.toml").write_text(JOBS, "utf-8")
    blocks = Page.read(PAGE).blocks
    (shown,) = (block.text for block in blocks if "deploy/kubernetes/setup" in block.text)
    (folder / "kustomization.yaml").write_text(shown, "utf-8")
    (typed,) = (block for block in blocks if "s/iris/" in block.text)
    script = "\n".join(command.text for command in commands(typed))
    subprocess.run(["/bin/sh", "-euc", script], cwd=folder, check=True, timeout=10)
    return folder


def test_a_burst_of_ones_own_runs_its_own_job_and_no_other(own: Path) -> None:
    objects = tuple(render(own))

    assert {one["metadata"]["name"] for one in of_kind(objects, "CronJob")} == {"churn-run", "churn-workers"}
    assert named(objects, "ConfigMap", "scorebeat-jobs")["data"] == {"jobs.toml": JOBS}
    commands = [" ".join(container["command"]) for pod in ours(objects) for container in pod.containers]
    assert sum("scorebeat enqueue churn " in command for command in commands) == 2
    assert "iris" not in yaml.safe_dump_all(objects)


@pytest.mark.skipif(not KUSTOMIZE, reason=WANTING)
def test_kustomize_leaves_nothing_of_the_example_either(own: Path) -> None:
    built = kustomized(own)

    made: list[Any] = list(yaml.safe_load_all(built))
    assert {one["metadata"]["name"] for one in made if one["kind"] == "CronJob"} == {"churn-run", "churn-workers"}
    assert "iris" not in built
