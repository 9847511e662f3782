"""A run that drifted, or that its gate holds, is posted to the job's address, and counted in the metrics."""

from typing import Any

import pytest

from scorebeat.db.closing import run_totals
from scorebeat.db.records import notices
from scorebeat.db.reports import drift
from scorebeat.producer.control.notices import notify
from scorebeat.producer.requests.release import discard, release
from tests.integration.drift.test_drift import normal
from tests.support.poison_fixtures import Points, points
from tests.support.scrape import of, samples

__all__ = ["points"]

HOOK = "https://hooks.example.org/x"


def events(points: Points, run_id: int) -> list[str]:
    with points.engine.begin() as connection:
        run_totals.note(connection)
    return points.sql("SELECT event FROM scorebeat.notices WHERE run_id = :run ORDER BY event", run=run_id)


def a_shifted_run(points: Points, **options: Any) -> int:
    normal(points, 3_000)
    points.model({})
    job = points.job(rescore="every-run", notify=HOOK, **options)
    points.scored(job)
    normal(points, 3_000, mean=0.5, seed=0.3)
    return points.scored(job)


def texts(points: Points) -> dict[str, str]:
    """The line of each notice that is due, by its event."""
    with points.engine.begin() as connection:
        taken = notices.take_due(connection, 10)
    posts = [(one.event, notify._request(points.producer, one, HOOK).content.decode()) for one in taken]
    return dict(posts)


def test_a_run_that_drifted_is_posted_beside_its_end_and_counted(points: Points) -> None:
    run_id = a_shifted_run(points)
    assert events(points, 1) == ["finished"]
    assert events(points, run_id) == ["drift", "finished"]
    found = texts(points)["drift"]
    assert f"drift: job points_job, run {run_id}, succeeded: input x: " in found
    assert f"`scorebeat drift points_job --run {run_id}` compares" in found

    numbers = samples(points.engine)
    assert of(numbers, "drifted_columns", job="points_job") == 2
    with points.engine.connect() as connection:
        psi = [finding.psi for finding in drift.of_run(connection, run_id).findings or ()]
    assert of(numbers, "largest_psi", job="points_job") == max(filter(None, psi))
    assert of(numbers, "runs_held", job="points_job") == 0


def test_a_held_run_is_posted_instead_of_its_end_and_again_when_a_person_decided(points: Points) -> None:
    run_id = a_shifted_run(points, gate={"drift": "hold"})
    assert events(points, run_id) == ["held"]
    found = texts(points)["held"]
    assert "held by the gate of its job" in found
    assert f"`scorebeat release {run_id}` shows it" in found
    assert of(samples(points.engine), "runs_held", job="points_job") == 1

    release(points.producer, run_id, "ann")
    assert events(points, run_id) == ["finished", "held"]
    numbers = samples(points.engine)
    assert of(numbers, "runs_held", job="points_job") == 0
    assert of(numbers, "runs_total", job="points_job", state="held") == 1


@pytest.mark.parametrize(
    ("chosen", "expected"), [(("failed", "late"), ["failed"]), (("drift",), []), (("held",), ["held"])]
)
@pytest.mark.wide
def test_a_discarded_run_failed_and_a_job_gets_what_it_chose(points: Points, chosen: Any, expected: list[str]) -> None:
    run_id = a_shifted_run(points, gate={"drift": "hold"}, notify_on=chosen)
    events(points, run_id)
    discard(points.producer, run_id, "ann")
    assert events(points, run_id) == expected
