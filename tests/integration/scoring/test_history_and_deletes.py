"""Earlier predictions are kept on request, and predictions follow deleted rows; also for the role that runs."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from sqlalchemy.exc import DBAPIError

from scorebeat.core.errors import NotPermitted
from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.db.ledger import followed_runs
from scorebeat.producer import retention
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep import follow_deletes
from scorebeat.producer.requests.enqueue import Request, enqueue
from scorebeat.producer.requests.preview import preview
from scorebeat.producer.requests.requeue import cancel
from scorebeat.producer.versions import drop
from tests.integration.scoring.test_changed_rows import QUERY, TABLE, change, values, watched
from tests.support.poison_fixtures import Points, assert_accounted, points
from tests.support.roles_fixtures import LockedPoints, locked, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "points", "roles"]

HISTORY = f"{TABLE}__history"


def test_a_prediction_of_an_earlier_time_is_found_in_the_history(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    (then,) = points.sql("SELECT clock_timestamp()")
    for x in (70, 71):
        change(points, 7, x)
        points.scored(job)

    assert points.sql(f"SELECT value, model_version, scored_at <= replaced_at FROM {HISTORY} ORDER BY replaced_at") == [
        (15.0, 1, True),
        (141.0, 1, True),
    ]
    query = (
        f"SELECT value FROM (SELECT id, value, scored_at, replaced_at FROM {HISTORY} UNION ALL"
        f" SELECT id, value, scored_at, NULL FROM {TABLE}) a"
        " WHERE id = 7 AND scored_at <= :then AND coalesce(replaced_at > :then, true)"
    )
    assert points.sql(query, then=then) == [15.0]
    assert values(points)[7] == 143.0


AS_OF = (
    "SELECT id, value FROM (SELECT id, value, scored_at, replaced_at FROM {history} UNION ALL"
    " SELECT id, value, scored_at, NULL FROM predictions.points_job) a"
    " WHERE scored_at <= :then AND coalesce(replaced_at > :then, true)"
)


def history_of(points: Points) -> str:
    (name,) = points.sql("SELECT history_table FROM scorebeat.prediction_sets WHERE history_table IS NOT NULL")
    return f"predictions.{name}"


def rescored(points: Points, job: Job) -> None:
    run = enqueue(points.producer, Request(job.name, "test", anew=True)).run_id
    plan(points.producer, run)
    assert points.work(run) is RunState.SUCCEEDED


@pytest.mark.slow
def test_history_goes_on_when_every_row_is_scored_anew(points: Points) -> None:
    job = watched(points, keep_history=True, keep=1)
    times, seen = [], []
    steps: list[Callable[[], None]] = [lambda: change(points, 7, 70), lambda: rescored(points, job)] * 3

    points.scored(job)
    for step in steps:
        times += points.sql("SELECT clock_timestamp()")
        seen.append(points.view(job))
        step()
        points.scored(job)

    assert points.errors == []
    found = [points.sql(AS_OF.format(history=history_of(points)), then=then) for then in times]
    assert [sorted(rows) for rows in found] == [sorted(rows.items()) for rows in seen]
    assert points.sql("SELECT count(*) FROM scorebeat.prediction_sets WHERE dropped_at IS NULL") == [1]


def test_history_that_was_switched_off_and_on_again_is_the_same_table(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    job = points.job(query=QUERY, changed_at="at")
    change(points, 8, 80)
    points.scored(job)
    rescored(points, job)
    job = points.job(query=QUERY, changed_at="at", keep_history=True)
    change(points, 7, 70)
    points.scored(job)

    assert history_of(points) == HISTORY
    assert points.sql(f"SELECT id, value FROM {HISTORY}") == [(7, 15.0)]


def test_history_of_a_run_anew_that_nobody_saw_is_none(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    run = enqueue(points.producer, Request(job.name, "test", anew=True)).run_id
    plan(points.producer, run)
    cancel(points.producer, run, "ann")

    assert points.sql(f"SELECT count(*) FROM {HISTORY}") == [0]
    rescored(points, job)
    assert points.sql(f"SELECT count(*), count(DISTINCT id) FROM {HISTORY}") == [(20, 20)]


def test_history_is_pruned_by_age_and_dropped_with_its_version(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    for number in (7, 8):
        change(points, number, number * 10)
    points.scored(job)
    points.sql(f"UPDATE {HISTORY} SET replaced_at = now() - interval '100 days' WHERE id = 7")

    assert retention.preview(points.producer, timedelta(days=90)).counts["replaced predictions"] == 1
    assert retention.run(points.producer, timedelta(days=90), "ann").counts["replaced predictions"] == 1
    assert points.sql(f"SELECT id FROM {HISTORY}") == [8]
    points.model({}, another=2)
    points.sql("UPDATE scorebeat.model_versions SET retired_at = now() WHERE version = 1")
    points.sql("UPDATE scorebeat.model_versions SET published_at = now() WHERE version = 2")
    points.scored(job)
    points.sql("DROP VIEW IF EXISTS predictions.points_job")
    drop.drop(points.producer, "poison", 1, "ann")
    assert points.sql("SELECT to_regclass(:name) IS NULL", name=HISTORY) == [True]


def test_predictions_and_quarantined_rows_of_deleted_rows_go_at_the_end_of_a_run(points: Points) -> None:
    job = watched(points, 40, deleted="follow", keep_history=True)
    points.scored(job)
    points.harm({"raise": np.array([666.5])})
    change(points, 9, 666)
    points.scored(job)
    points.sql("DELETE FROM points WHERE id IN (7, 8, 9)")
    assert follow_deletes.is_due(points.producer)

    run = points.scored(job)
    assert follow_deletes.run_once(points.producer) == 2

    assert_accounted(points.engine, job, {})
    assert points.sql(f"SELECT id FROM {HISTORY} ORDER BY id") == [7, 8, 9]
    assert points.sql("SELECT rows_removed FROM scorebeat.runs WHERE id = :run", run=run) == [2]
    assert points.sql("SELECT details ->> 'predictions', details ->> 'quarantined' FROM scorebeat.actions"
                      " WHERE action = 'predictions.followed'") == [("2", "1")]  # fmt: skip
    assert not follow_deletes.is_due(points.producer)


@pytest.mark.quick
def test_a_table_that_is_being_loaded_anew_costs_no_predictions(points: Points) -> None:
    job = watched(points, 40, deleted="follow")
    points.scored(job)
    points.sql("CREATE TABLE kept AS SELECT * FROM points")
    points.sql("DELETE FROM points WHERE id > 5")

    run = points.scored(job)
    assert follow_deletes.run_once(points.producer) == 0

    assert len(values(points)) == 40
    assert points.sql("SELECT rows_removed FROM scorebeat.runs WHERE id = :run", run=run) == [None]
    (left,) = points.sql("SELECT details ->> 'left' FROM scorebeat.actions WHERE action = 'predictions.followed'")
    assert "gives no row for 35 of its 40 old predictions" in left
    assert "`scorebeat prune --job points_job --older-than 1s --even-most`" in left


def test_without_follow_the_prediction_of_a_deleted_row_stays(points: Points) -> None:
    job = watched(points)
    points.scored(job)
    points.sql("DELETE FROM points WHERE id = 7")
    points.scored(job)

    assert not follow_deletes.is_due(points.producer)
    assert values(points)[7] == 15.0


def test_a_job_without_changed_at_can_follow_deletes_too(points: Points) -> None:
    points.fill(40)
    points.model({})
    job = points.job(deleted="follow")
    points.scored(job)
    points.sql("DELETE FROM points WHERE id = 7")
    points.scored(job)

    assert follow_deletes.run_once(points.producer) == 1
    assert_accounted(points.engine, job, {})


def test_a_preview_counts_new_rows_changed_ones_and_odd_values(points: Points) -> None:
    job = watched(points)
    points.scored(job)
    points.sql("INSERT INTO points (id, x) VALUES (21, 21.5), (22, 22.5)")
    for number, now in ((7, "clock_timestamp()"), (8, "at - interval '1 day'"), (9, "NULL"), (10, "'infinity'")):
        change(points, number, 70, now)

    found = preview(points.producer, job.name)

    assert (found.rows, found.changed, found.without_value, found.gone_back) == (3, 1, 2, 1)


def test_the_role_that_runs_replaces_and_follows_by_the_owners_functions(locked: LockedPoints) -> None:
    job = watched(locked, 40, deleted="follow", keep_history=True)
    locked.scored(job)
    change(locked, 7, 70)
    locked.sql("DELETE FROM points WHERE id = 8")

    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED
    assert follow_deletes.run_once(locked.runner) == 1

    assert locked.errors == []
    assert_accounted(locked.engine, job, {})
    assert locked.as_runner(f"SELECT id, value FROM {HISTORY} ORDER BY id") == [(7, 15.0), (8, 17.0)]


def test_a_table_of_before_is_changed_by_its_owner_alone(locked: LockedPoints) -> None:
    locked.fill(20)
    locked.sql("ALTER TABLE points ADD COLUMN at timestamptz DEFAULT clock_timestamp()")
    locked.model({})
    locked.scored(locked.job(query=QUERY))
    locked.sql('UPDATE scorebeat.jobs SET spec = spec || \'{"changed_at": "at"}\'')

    with pytest.raises(NotPermitted, match="which `scorebeat apply` under it does"):
        enqueue(locked.runner, Request("points_job", "test"))

    job = locked.job(query=QUERY, changed_at="at")
    assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED


def test_predictions_of_a_job_that_replaces_none_cannot_be_deleted_by_the_function(locked: LockedPoints) -> None:
    locked.fill(5)
    locked.model({})
    locked.scored(locked.job())
    locked.as_runner(
        "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, spec, created_by, plan_expires_at)"
        " SELECT job, model, model_version, prediction_set_id, spec || '{\"changed_at\": \"x\"}', 'eve', now()"
        " FROM scorebeat.runs"
    )  # a forged run
    seen = f"(SELECT jsonb_agg(jsonb_build_array(ctid::text, xmin::text, NULL)) FROM {TABLE})"

    with pytest.raises(DBAPIError, match="is not one of a job whose predictions are replaced"):
        locked.as_runner(f"SELECT scorebeat.replace_rows(1, {seen})")

    assert len(values(locked)) == 5


def test_scoring_every_row_anew_goes_on_with_changes_beside_it(points: Points) -> None:
    job = watched(points, keep_history=True)
    points.scored(job)
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'points_job' ORDER BY 1"
    before = points.sql(columns)
    run = enqueue(points.producer, Request(job.name, "test", anew=True)).run_id
    plan(points.producer, run)
    change(points, 7, 70)
    assert points.work(run) is RunState.SUCCEEDED
    change(points, 8, 80)
    points.scored(job)

    assert points.errors == []
    assert points.sql(columns) == before
    assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points"))
    assert points.batches(points.scored(job)) == []


def followed(points: Points) -> list[Any]:
    """What was recorded of deletes that were followed."""
    return points.sql("SELECT details - 'run' FROM scorebeat.actions WHERE action = 'predictions.followed' ORDER BY id")


def test_the_command_of_the_note_deletes_rows_of_this_job_alone(points: Points) -> None:
    job = watched(points, 40, deleted="follow", keep_history=True)
    points.scored(job)
    other = points.job(name="other_job", query=QUERY, changed_at="at")
    points.scored(other)
    points.sql("DELETE FROM points WHERE id > 5")
    points.sql("UPDATE scorebeat.prediction_sets SET created_at = now() - interval '1 hour'")
    for table in (TABLE, "predictions.other_job__poison_v1"):
        points.sql(f"UPDATE {table} SET scored_at = now() - interval '1 hour'")
    batches = points.sql("SELECT count(*) FROM scorebeat.batches")

    counted = retention.preview(points.producer, timedelta(seconds=1), even_most=True, job=job.name)
    done = retention.run(points.producer, timedelta(seconds=1), "ann", even_most=True, job=job.name)

    assert counted.counts == done.counts == {retention.PREDICTIONS: 35, retention.QUARANTINED: 0}
    assert points.sql(f"SELECT count(*) FROM {HISTORY}") == [35]
    assert points.view(job) == {i: 2 * i + 1 for i in range(1, 6)}
    assert len(points.view(other)) == 40
    assert points.sql("SELECT count(*) FROM scorebeat.batches") == batches


def test_predictions_that_prune_deletes_move_to_the_history(points: Points) -> None:
    job = watched(points, 40, keep_history=True)
    points.scored(job)
    points.sql("DELETE FROM points WHERE id = 7")
    points.sql(f"UPDATE {TABLE} SET scored_at = now() - interval '100 days'")

    assert retention.run(points.producer, timedelta(days=90), "ann").counts[retention.PREDICTIONS] == 1
    assert points.sql(f"SELECT id, value FROM {HISTORY}") == [(7, 15.0)]


def test_rows_that_go_after_a_run_with_values_of_its_own_are_followed(points: Points) -> None:
    points.fill(40)
    points.model({})
    query = "SELECT id, x FROM points WHERE id <= :most"
    job = points.job(deleted="follow", query=query, parameters={"most": 40})
    points.scored(job)
    points.sql("DELETE FROM points WHERE id IN (7, 8)")
    run = enqueue(points.producer, Request(job.name, "test", parameters={"most": "20"})).run_id
    plan(points.producer, run)
    points.work(run)

    assert follow_deletes.run_once(points.producer) == 2
    assert_accounted(points.engine, job, {})
    assert followed(points) == [{"left": None, "predictions": 2, "quarantined": 0}]


def test_rows_that_go_after_every_row_was_scored_anew_are_followed(points: Points) -> None:
    job = watched(points, 40, deleted="follow")
    points.scored(job)
    rescored(points, job)
    points.sql("DELETE FROM points WHERE id = 7")

    assert follow_deletes.run_once(points.producer) == 2  # in both generations
    assert points.view(job) == dict(points.sql("SELECT id, 2 * x FROM points"))
    assert followed(points) == [{"left": None, "predictions": 2, "quarantined": 0}]


def test_rows_in_quarantine_that_go_alone_are_recorded_too(points: Points) -> None:
    points.fill(40)
    points.model({"raise": [7]})
    job = points.job(deleted="follow", error_threshold=-1)
    points.scored(job)
    points.sql("DELETE FROM points WHERE id = 7")

    assert follow_deletes.run_once(points.producer) == 0
    assert_accounted(points.engine, job, {})
    assert followed(points) == [{"left": None, "predictions": 0, "quarantined": 1}]


def test_one_process_alone_looks_after_a_run(points: Points) -> None:
    points.fill(40)
    points.model({})
    run = points.scored(points.job(deleted="follow"))

    with points.engine.begin() as connection:
        assert [followed_runs.take(connection, run) for _ in range(2)] == [True, False]


@pytest.mark.parametrize("how", ["cancelled", "failed", "removed"])
def test_nothing_is_deleted_after_a_run_that_did_not_end_well(points: Points, how: str) -> None:
    points.fill(40)
    points.model({})
    job = points.job(deleted="follow")
    points.scored(job)
    assert follow_deletes.run_once(points.producer) == 0
    points.sql("DELETE FROM points WHERE id = 7")
    points.sql("INSERT INTO points VALUES (41, NULL)")
    run = points.planned(job)
    if how == "cancelled":
        cancel(points.producer, run, "ann")
    elif how == "failed":
        points.sql("ALTER TABLE points RENAME TO away")
        points.work(run)
        points.sql("ALTER TABLE away RENAME TO points")
    else:
        points.work(run)
        points.sql("UPDATE scorebeat.jobs SET removed_at = now()")

    assert not follow_deletes.is_due(points.producer)
    assert values(points)[7] == 15.0
