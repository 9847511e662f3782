"""Readers' views move under the role that runs only when a run has ended in the ledger."""

from typing import Any

import pytest
from psycopg2.errors import RaiseException
from sqlalchemy.exc import DBAPIError

from scorebeat.core.jobs.job import Job
from scorebeat.core.states import RunState
from scorebeat.producer.requests.requeue import cancel
from scorebeat.producer.versions import publish
from tests.support.roles_fixtures import LockedPoints, locked, roles

pytestmark = pytest.mark.wide

__all__ = ["locked", "roles"]

ENDED = "state = 'succeeded', finished_at = now()"
MANY = 10


def refused(locked: LockedPoints, call: str, reason: str, **values: Any) -> None:
    with pytest.raises(DBAPIError, match=reason) as error:
        locked.as_runner(f"SELECT scorebeat.{call}", **values)
    assert isinstance(error.value.orig, RaiseException)


def run_function(locked: LockedPoints, call: str, **values: Any) -> Any:
    ((value,),) = locked.as_runner(f"SELECT scorebeat.{call}", **values)
    return value


@pytest.fixture
def anew(locked: LockedPoints) -> Job:
    """A job whose first generation is shown."""
    locked.fill(MANY)
    locked.model({})
    job = locked.job(rescore="every-run", keep=1)
    locked.scored(job)
    return job


@pytest.fixture
def whole(locked: LockedPoints) -> Job:
    """A job that is shown whole or not at all, whose first run is shown; as many rows again are to be scored."""
    locked.fill(MANY)
    locked.model({})
    job = locked.job(on_failure="retry-run", batch_rows=2)
    locked.scored(job)
    locked.sql(f"INSERT INTO points SELECT i, i + 0.5 FROM generate_series({MANY + 1}, {2 * MANY}) i")
    return job


def newest(locked: LockedPoints) -> int:
    return int(locked.sql("SELECT max(id) FROM scorebeat.prediction_sets")[0])


def test_a_generation_that_no_run_made_takes_nothing_from_readers(locked: LockedPoints, anew: Job) -> None:
    shown = newest(locked)
    empty = run_function(locked, "open_generation(:like, 2, 'points_job__poison_v1_g2')", like=shown)

    refused(locked, "complete_generation(:set)", "ended and looked at every row", set=empty)
    refused(locked, "show_generation(:set)", "is not complete", set=empty)

    assert run_function(locked, "drop_generation(:set)", set=shown) is False
    assert len(locked.view(anew)) == MANY


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE scorebeat.runs SET state = 'cancelled' WHERE id = :run",
        "UPDATE scorebeat.runs SET state = 'running', finished_at = NULL WHERE id = :run",
        "UPDATE scorebeat.runs SET plan_is_whole = false WHERE id = :run",
        "UPDATE scorebeat.runs SET row_limit = 10 WHERE id = :run",
        "UPDATE scorebeat.runs SET row_filter = 'id > 0' WHERE id = :run",
        "UPDATE scorebeat.runs SET row_keys = '[[\"1\"]]' WHERE id = :run",
        "UPDATE scorebeat.batches SET state = 'dead', error = 'x' WHERE run_id = :run",
        "UPDATE scorebeat.batches SET rows_scored = 0, rows_failed = 10 WHERE run_id = :run",
    ],
)
def test_a_run_that_left_rows_out_completes_no_generation(locked: LockedPoints, anew: Job, statement: str) -> None:
    run = locked.planned(anew)
    made = locked.run(run).prediction_set_id
    locked.sql(f"UPDATE scorebeat.runs SET {ENDED} WHERE id = :run", run=run)
    locked.sql(
        "UPDATE scorebeat.batches SET state = 'committed', rows_scored = 10, sent_at = NULL, finished_at = now()"
        " WHERE run_id = :run",
        run=run,
    )
    locked.sql(statement, run=run)

    refused(locked, "complete_generation(:set)", "ended and looked at every row", set=made)
    locked.sql("UPDATE scorebeat.prediction_sets SET complete_at = now() WHERE id = :set", set=made)
    refused(locked, "show_generation(:set)", "is not complete", set=made)

    assert locked.sql("SELECT count(*) FROM predictions.points_job") == [MANY]


@pytest.mark.usefixtures("anew")
def test_a_whole_run_over_no_rows_is_shown_and_an_older_generation_never_again(locked: LockedPoints) -> None:
    anew = locked.job(rescore="every-run", keep=1, allow_empty=True)
    first = newest(locked)
    with locked.admin.connect() as reader:  # so that the first stays
        reader.exec_driver_sql("SELECT count(*) FROM predictions.points_job__poison_v1_g1")
        locked.sql("DELETE FROM points")
        run = locked.scored(anew)

    refused(locked, "show_generation(:set)", "older than one that is", set=first)

    assert locked.run(run).state is RunState.SUCCEEDED
    assert locked.view(anew) == {}
    assert locked.run(locked.scored(anew)).state is RunState.SUCCEEDED


@pytest.mark.parametrize("number", [-1, 0, 1, 3, 77, 2**31 - 1])
def test_a_generation_has_no_other_number_than_the_next(locked: LockedPoints, anew: Job, number: int) -> None:
    refused(
        locked,
        "open_generation(:like, :number, :name)",
        f"generation {number} does not follow 1",
        like=newest(locked),
        number=number,
        name=f"{anew.name}__poison_v1_g{number}",
    )


@pytest.mark.parametrize("name", ["other_job__poison_v1_g2", "points_job__other_v1_g2", "q_v1_g2"])
@pytest.mark.usefixtures("anew")
def test_a_generation_takes_no_name_of_another_job(locked: LockedPoints, name: str) -> None:
    refused(
        locked, "open_generation(:like, 2, :name)", "is not the name of generation 2", like=newest(locked), name=name
    )


@pytest.mark.parametrize("length", [15, 16, 40])
def test_generations_with_long_names_are_made_under_the_role_that_runs(locked: LockedPoints, length: int) -> None:
    locked.fill(MANY)
    locked.model({})
    publish.add(locked.producer, locked.folder / "model.poison", "m" * length, "test")
    job = locked.job(name="j" * 40, model="m" * length, rescore="every-run")

    for _ in range(10):  # the tenth name is a letter longer
        assert locked.run(locked.scored(job)).state is RunState.SUCCEEDED

    assert len(locked.view(job)) == MANY


def test_the_newest_generation_is_not_dropped_so_that_its_number_stays_free(locked: LockedPoints, anew: Job) -> None:
    cut = locked.planned(anew)
    cancel(locked.runner, cut, "ann")

    assert run_function(locked, "drop_generation(:set)", set=newest(locked)) is False

    assert locked.run(locked.scored(anew)).state is RunState.SUCCEEDED


def test_an_older_run_shows_no_half_of_one_that_goes_on(locked: LockedPoints, whole: Job) -> None:
    (older,) = locked.sql("SELECT max(id) FROM scorebeat.runs")
    run = locked.planned(whole)
    for batch_id in locked.pending(run)[:2]:
        locked.attempt(batch_id)

    run_function(locked, "show_run(:run)", run=older)
    locked.as_runner("UPDATE scorebeat.runs SET state = 'cancelled', finished_at = now() WHERE id = :run", run=run)
    run_function(locked, "show_run(:run)", run=older)
    locked.as_runner("UPDATE scorebeat.runs SET state = 'running', finished_at = NULL WHERE id = :run", run=run)

    assert len(locked.view(whole)) == MANY
    assert locked.work(run) is RunState.SUCCEEDED
    assert len(locked.view(whole)) == 2 * MANY


@pytest.mark.usefixtures("whole")
def test_a_run_that_is_shown_hides_nothing_that_is_shown_as_it_comes(locked: LockedPoints) -> None:
    (older,) = locked.sql("SELECT max(id) FROM scorebeat.runs")
    rows = locked.job(batch_rows=2)
    locked.scored(rows)

    run_function(locked, "show_run(:run)", run=older)

    assert len(locked.view(rows)) == 2 * MANY


@pytest.mark.usefixtures("whole")
def test_predictions_that_are_stored_keep_their_batches_whatever_the_run_is_called(locked: LockedPoints) -> None:
    (run,) = locked.sql("SELECT max(id) FROM scorebeat.runs")
    locked.as_runner("UPDATE scorebeat.runs SET state = 'failed', reason = 'x' WHERE id = :run", run=run)

    refused(locked, "renumber_batches(:run)", f"predictions of run {run} are stored", run=run)

    kept = "SELECT count(*) FROM predictions.points_job p JOIN scorebeat.batches b ON b.id = p.batch_id"
    assert locked.sql(kept) == [MANY]
