"""A job that runs rarely is looked at in between: some rows are scored by a real worker, checked, and not stored."""

from typing import Any
from unittest.mock import ANY

import pytest

from scorebeat.core.states import RunState
from scorebeat.db.ledger.evidence import canaries
from scorebeat.db.reports.forecasts import mornings
from scorebeat.models.trial import golden
from scorebeat.producer.control.upkeep import canaries as control
from scorebeat.worker.scoring.canary import run_canary
from tests.support import scrape
from tests.support.poison_fixtures import Points, points

pytestmark = pytest.mark.slow(quick=3)

__all__ = ["points"]


def prepared(points: Points, **options: Any) -> None:
    """A job whose rows are all scored, long ago."""
    points.fill(500)
    points.model(options.pop("harm", {}))
    job = points.job(canary={"every": "1d", "rows": 50}, **options)
    points.scored(job)
    points.sql("UPDATE scorebeat.runs SET created_at = now() - interval '2 d', finished_at = now() - interval '2 d'")


def sent(points: Points) -> list[int]:
    control.run_once(points.producer)
    return points.sql("SELECT id FROM scorebeat.canaries WHERE finished_at IS NULL")


def seen(points: Points) -> canaries.Canary:
    with points.engine.connect() as connection:
        return canaries.newest(connection)["points_job"]


def test_a_canary_is_sent_when_nothing_else_ran_and_changes_no_prediction(points: Points) -> None:
    prepared(points)
    before = points.sql("SELECT id, value, batch_id FROM predictions.points_job__poison_v1 ORDER BY id")
    (canary,) = sent(points)
    assert sent(points) == [canary]
    assert run_canary(canary, points.runtime) is True
    found = seen(points)
    assert (found.model, found.rows, found.compared, found.differing, found.failure) == ("poison/1", 50, 50, 0, None)
    assert run_canary(canary, points.runtime) is None
    assert sent(points) == []
    assert points.sql("SELECT id, value, batch_id FROM predictions.points_job__poison_v1 ORDER BY id") == before
    assert len(points.sql("SELECT id FROM scorebeat.runs")) == 1

    points.sql("UPDATE scorebeat.canaries SET sent_at = sent_at - interval '2 d'")
    points.sql("INSERT INTO points VALUES (501, 501.5)")
    points.scored(points.run(1).job)
    assert sent(points) == []


def test_a_run_that_finds_no_row_keeps_no_canary_away_and_hides_no_failed_one(points: Points) -> None:
    prepared(points)
    job = points.run(1).job
    points.scored(job)
    (canary,) = sent(points)
    points.sql("UPDATE scorebeat.canaries SET finished_at = now(), reported_at = now(), failure = 'a column is gone'")
    points.scored(job)
    with points.engine.connect() as connection:
        (morning,) = mornings.listing(connection)
    assert "the last canary: a column is gone" in morning.problems
    assert gauges(points) == {"canary_failed": 1, "canary_overdue_seconds": 0}

    points.sql("INSERT INTO points VALUES (501, 501.5)")
    points.scored(job)
    assert gauges(points) == {"canary_failed": 0, "canary_overdue_seconds": 0}
    points.sql(f"UPDATE scorebeat.canaries SET sent_at = now() - interval '3 d' WHERE id = {canary}")
    points.sql("UPDATE scorebeat.runs SET finished_at = now() - interval '3 d'")
    points.sql("UPDATE scorebeat.jobs SET applied_at = now() - interval '3 d'")
    assert gauges(points)["canary_overdue_seconds"] == pytest.approx(2 * 86_400, abs=60)


def gauges(points: Points) -> dict[str, float]:
    found = scrape.samples(points.engine)
    return {name: scrape.of(found, name, job="points_job") for name in ("canary_failed", "canary_overdue_seconds")}


@pytest.mark.quick
def test_a_clock_that_went_back_a_year_keeps_no_canary_away(points: Points) -> None:
    prepared(points)
    points.sql(
        "INSERT INTO scorebeat.canaries (job, queue, sent_at, expires_at) VALUES ('points_job', 'cpu',"
        " now() + interval '1 y', now() + interval '1 y')"
    )
    control.run_once(points.producer)
    assert len(points.sql("SELECT id FROM scorebeat.canaries WHERE sent_at < now() AND finished_at IS NULL")) == 1


@pytest.mark.parametrize(
    ("options", "change", "passes"),
    [
        ({"changed_at": "at"}, "UPDATE points SET x = x + 1, at = at + 1 WHERE id <= 400", True),
        pytest.param(
            {"changed_at": "at"},
            "UPDATE predictions.points_job__poison_v1 SET value = value + 1",
            False,
            marks=pytest.mark.wide,
        ),
        ({"rescore": "every-run"}, "UPDATE points SET x = x + 1", True),
        pytest.param({}, "UPDATE points SET x = x + 1", False, marks=pytest.mark.wide),
        ({"golden": 3}, "UPDATE points SET x = x + 1", True),
    ],
)
def test_rows_that_changed_since_they_were_scored_fail_no_canary(
    points: Points, options: Any, change: str, passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, agreeing = dict(options), options.get("golden", 0)
    options.pop("golden", None)
    monkeypatch.setattr(golden, "require_agreement", lambda *_: agreeing)
    points.fill(500)
    points.sql("ALTER TABLE points ADD at bigint NOT NULL DEFAULT 1")
    points.model({})
    query = "SELECT id, x, at FROM points"
    points.scored(points.job(query=query, canary={"every": "1d", "rows": 100}, **options))
    points.sql("UPDATE scorebeat.runs SET created_at = now() - interval '2 d', finished_at = now() - interval '2 d'")
    points.sql(change)
    (canary,) = sent(points)
    assert (run_canary(canary, points.runtime), seen(points).failure) == (passes, None if passes else ANY)
    if options == {"changed_at": "at"} and passes:
        assert 0 < (seen(points).compared or 0) < 60
        assert seen(points).differing == 0


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        ("ALTER TABLE points RENAME x TO y", 'column "x" does not exist'),
        ("DELETE FROM points", "the query gives no rows"),
        ("UPDATE predictions.points_job__poison_v1 SET value = value + 1", "50 of 50 predictions are not those"),
        ("UPDATE scorebeat.model_versions SET digest = repeat('0', 64)", "altered"),
        ("ALTER TABLE points ALTER x TYPE text", "cannot become"),
    ],
)
def test_a_canary_fails_for_what_a_run_would_meet(points: Points, harm: str, expected: str) -> None:
    prepared(points)
    points.sql(harm)
    (canary,) = sent(points)
    assert run_canary(canary, points.runtime) is False
    assert expected in (seen(points).failure or "")
    control.run_once(points.producer)
    run = points.run(2)
    assert run.state is RunState.FAILED
    assert run.reason is not None
    assert run.reason.startswith("canary: ")
    assert expected in run.reason


def test_a_canary_that_no_worker_ends_is_a_failure(points: Points) -> None:
    prepared(points)
    (canary,) = sent(points)
    points.sql("UPDATE scorebeat.canaries SET expires_at = now()")
    control.run_once(points.producer)
    assert seen(points).failure == "no worker of queue cpu took it in time"
    assert run_canary(canary, points.runtime) is None
    assert points.run(2).state is RunState.FAILED


def test_rows_that_are_quarantined_for_good_do_not_fail_a_canary(points: Points) -> None:
    prepared(points, harm={"raise": [3]})
    points.sql("DELETE FROM predictions.points_job__poison_v1 WHERE id > 10")
    (canary,) = sent(points)
    assert run_canary(canary, points.runtime) is True
    assert seen(points).rows == 9


def test_a_job_without_predictions_is_looked_at_by_its_first_rows(points: Points) -> None:
    points.fill(500)
    points.model({})
    points.job(canary={"every": "1d", "rows": 50})
    (canary,) = sent(points)
    assert run_canary(canary, points.runtime) is True
    assert (seen(points).rows, seen(points).compared) == (50, 0)
