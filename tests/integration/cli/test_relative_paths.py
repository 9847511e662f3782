"""Paths that are relative start where the process began, wherever its models go."""

from pathlib import Path

import pytest

from scorebeat.core.settings import Settings
from scorebeat.producer.versions import publish
from scorebeat.worker.scoring.runtime import Runtime
from tests.support.poison_fixtures import Points, assert_accounted, points

__all__ = ["points"]

WALKER = """
import os

class Walker:
    inputs = {"x": "float64"}
    outputs = {"value": "float64"}

    def __init__(self, files, device):
        pass

    def predict(self, rows):
        os.chdir("/")
        return {"value": [2 * x for x in rows["x"].to_pylist()]}
"""


def test_jobs_beside_a_model_that_changes_the_folder_are_scored(
    points: Points, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("walker.py").write_text(WALKER)
    relative = {"artifacts": "artifacts", "cache": "cache", "data": "data", "jobs": "jobs.toml"}
    points.runtime = Runtime(Settings(**(points.settings.model_dump() | relative)), name="w1")
    points.fill(40)
    publish.add(points.producer, "walker:Walker", "walker", "test")
    points.model({})
    walking = points.job(name="walking", model="walker")
    points.scored(walking)
    other = points.job(name="other")
    points.scored(other)

    assert points.errors == []
    assert_accounted(points.engine, walking, {})
    assert_accounted(points.engine, other, {})
