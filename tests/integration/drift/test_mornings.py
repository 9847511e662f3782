"""The question of the morning: each job has one light, with what is to be looked at, the worst first."""

from scorebeat.core.states import RunState
from scorebeat.db.reports.forecasts import mornings
from scorebeat.db.reports.forecasts.mornings import Morning
from tests.integration.drift.test_drift import normal
from tests.support.poison_fixtures import Points, points

__all__ = ["points"]


def morning(points: Points) -> Morning:
    with points.engine.connect() as connection:
        (found,) = mornings.listing(connection)
    return found


def test_the_light_of_a_job_follows_its_runs(points: Points) -> None:
    normal(points, 2_000)
    points.model({})
    job = points.job(rescore="every-run", schedule="0 3 * * *")
    assert (morning(points).light, morning(points).runs) == ("new", ())

    points.scored(job)
    assert (morning(points).light, morning(points).problems + morning(points).notes) == ("good", [])

    normal(points, 2_000, mean=1.0)
    points.scored(job)
    found = morning(points)
    assert (found.light, found.notes) == ("look", ["2 columns drifted in run 2"])
    assert found.runs == ((1, RunState.SUCCEEDED), (2, RunState.SUCCEEDED))

    held = points.planned(points.job(rescore="every-run", schedule="0 3 * * *", gate={"min_rows": 5_000}))
    points.work(held)
    assert (morning(points).light, morning(points).problems) == ("bad", [f"run {held} waits for a decision"])

    points.sql("UPDATE scorebeat.runs SET state = 'failed', reason = 'the disk is full' WHERE id = :id", id=held)
    points.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '9 d'")
    points.sql("UPDATE scorebeat.runs SET finished_at = finished_at - interval '8 d' WHERE id < :id", id=held)
    found = morning(points)
    assert found.light == "bad"
    assert [one.split(" ")[0] for one in found.problems] == ["complete", "run"]
    assert f"run {held} failed: the disk is full" in found.problems


def test_a_failed_canary_is_a_problem_until_something_runs(points: Points) -> None:
    normal(points, 100)
    points.model({})
    job = points.job(canary={"every": "1d"})
    points.scored(job)
    points.sql(
        "INSERT INTO scorebeat.canaries (job, queue, expires_at, finished_at, reported_at, failure)"
        " VALUES ('points_job', 'cpu', now(), now(), now(), 'a column is gone')"
    )
    assert morning(points).problems == ["the last canary: a column is gone"]
    points.sql("INSERT INTO points SELECT i, i FROM generate_series(1000, 1010) i")
    points.scored(job)
    assert morning(points).light == "good"
