"""Each run keeps a profile of what the model got and returned, and is compared with its reference."""

import json
import logging
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from scorebeat.core.jobs.job import Job
from scorebeat.db.ledger.evidence import profiles
from scorebeat.drift.profile import Profile
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]

ANEW: dict[str, Any] = {"rescore": "every-run"}


def normal(points: Points, rows: int, mean: float = 0.0, seed: float = 0.1) -> None:
    """A table of points whose x is normal: rows in the order of their ids, as a table that was just loaded."""
    points.sql("CREATE TABLE IF NOT EXISTS points (id bigint PRIMARY KEY, x float8)")
    points.sql("TRUNCATE points")
    points.sql(
        "WITH seeded AS (SELECT setseed(:seed)) INSERT INTO points SELECT i, :mean + sqrt(-2 * ln(1 - random()))"
        " * cos(2 * pi() * random()) FROM seeded, generate_series(1, :rows) i",
        rows=rows,
        mean=mean,
        seed=seed,
    )
    points.sql("ANALYZE points")


def compared(points: Points, run_id: int) -> profiles.RunDrift:
    with points.engine.connect() as connection:
        found = profiles.compared(connection, run_id)
    assert found is not None
    return found


def test_a_shift_is_reported_and_the_same_data_are_not(points: Points, caplog: pytest.LogCaptureFixture) -> None:
    normal(points, 10_000)
    points.model({})
    job = points.job(**ANEW, batch_rows=2_500)
    first = points.scored(job)
    assert (compared(points, first).findings, compared(points, first).rows) == (None, 4_000)

    normal(points, 10_000, seed=0.2)
    same = compared(points, points.scored(job))
    assert [(f.side, f.name, f.reasons) for f in same.findings or ()] == [("input", "x", ()), ("output", "value", ())]
    assert same.reference == f"run {first}"

    normal(points, 10_000, mean=0.5, seed=0.3)
    with caplog.at_level(logging.WARNING):
        shifted = points.scored(job)
    found = compared(points, shifted).drifted
    assert [(f.side, f.name) for f in found] == [("input", "x"), ("output", "value")]
    assert "drift.found" in caplog.text
    means = np.array([f.mean for f in found], dtype=float)
    assert means[0] == pytest.approx([0, 0.5], abs=0.1)
    assert means[1] == pytest.approx(2 * means[0])


def test_small_runs_are_compared_together(points: Points) -> None:
    normal(points, 2_000)
    points.model({})
    job = points.job(drift={"min_rows": 1_000})
    points.scored(job)
    found = []
    for batch in range(4):
        points.sql(
            "INSERT INTO points SELECT i, 2 + random() FROM generate_series(:low, :low + 399) i",
            low=10_000 + 400 * batch,
        )
        found.append(points.scored(job))
    seen = [compared(points, run_id) for run_id in found]
    assert [(one.rows, bool(one.drifted)) for one in seen] == [(0, False), (0, False), (1_200, True), (400, False)]
    assert seen[1].why_not == "its rows are compared together with those of run 4"
    assert "the next run is compared together" in (seen[3].why_not or "")


def test_the_profile_is_of_the_committed_rows_however_often_batches_are_tried(points: Points) -> None:
    normal(points, 3_000)
    points.model({})
    job = points.job(batch_rows=1_000)
    run_id = points.planned(job)
    first, second, _ = points.pending(run_id)
    points.attempt(first)
    points.sql("UPDATE scorebeat.batches SET state = 'pending', finished_at = NULL WHERE id = :id", id=first)
    points.attempt(first)  # its rows have predictions by now
    points.attempt(second)
    points.work(run_id)
    with points.engine.connect() as connection:
        profile = profiles.of_run(connection, run_id)
    assert profile is not None
    x = np.array(points.sql("SELECT x FROM points"))
    column = profile.inputs["x"]
    assert column.rows <= 3_000
    assert column.rows >= 2_000
    assert column.mean == pytest.approx(x.mean(), abs=0.1)
    assert column.numbers.get_min_value() >= x.min()
    assert points.sql("SELECT count(*) FROM scorebeat.batch_profiles") == [0]


def test_a_run_that_is_begun_again_keeps_the_profile_of_its_last_try(points: Points) -> None:
    normal(points, 2_000)
    points.model({})
    job = points.job(on_failure="retry-run", batch_rows=1_000)
    run_id = points.planned(job)
    first, second = points.pending(run_id)
    points.sql(
        "UPDATE scorebeat.batches SET state = 'dead', error = 'x', finished_at = now(), sent_at = NULL WHERE id = :id",
        id=second,
    )
    points.attempt(first)
    points.work(run_id)
    assert points.sql("SELECT tries FROM scorebeat.runs") == [2]
    assert compared(points, run_id).rows == 2_000


def test_a_text_that_few_rows_share_is_in_no_table_of_the_ledger() -> None:
    texts = pa.array(["paris"] * 20 + [f"secret {i}" for i in range(4)])
    stored = Profile.of(pa.record_batch({"city": texts}), pa.record_batch({"label": texts})).to_bytes()
    assert b"paris" in stored
    assert b"secret" not in stored


def test_a_job_without_drift_keeps_no_profile(points: Points) -> None:
    normal(points, 1_000)
    points.model({})
    points.scored(points.job(drift=None))
    assert points.sql(
        "SELECT (SELECT count(*) FROM scorebeat.run_profiles) + count(*) FROM scorebeat.batch_profiles"
    ) == [0]


def test_jobs_keep_the_limits_that_they_set() -> None:
    job = Job(name="a", query="SELECT 1", key=("id",), model="m", drift={"psi": 1, "min_rows": 500})  # type: ignore[arg-type]
    stored = json.loads(job.model_dump_json())
    assert Job.model_validate(stored) == job
    assert job.drift is not None
    assert (job.drift.psi, job.drift.distance, job.drift.min_rows) == (1.0, 0.25, 500)
