"""Nights that go wrong: each is seen in `runs`, Flower, the webhook, the metrics and the log, and each is mended by
taking its cause away, or by the one command that the message names."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import pytest
from sqlalchemy import Connection, text

from scorebeat.models.contract import AddOptions
from scorebeat.producer.versions import publish
from tests.support.fixtures import wait_for
from tests.support.nights import PASSWORD, ROLE, Night, a_night
from tests.support.source_tables import INPUTS
from tests.support.system import assert_scored_once

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def night(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Night]:
    with a_night(tmp_path_factory.mktemp("night")) as made:
        yield made


def test_a_renamed_column_is_a_failed_run_and_scored_when_it_is_back(night: Night) -> None:
    job = night.job("renamed")
    night.system.execute("ALTER TABLE renamed RENAME COLUMN a TO width")
    night.is_due(job)

    failed = night.run(job, "failed")
    night.until_posted(job, "failed", failed)
    seen = night.look(job)
    seen.assert_reported('column "a" does not exist')
    seen.assert_reported("It is tried again until the job is due again")
    assert f"run {failed} failed" in seen.jobs
    assert seen.metric("runs_total", job=job.name, state="failed") == 1
    assert seen.metric("last_run_succeeded", job=job.name) == 0
    seen.assert_logged("ERROR", "run.failed", run=failed, job=job.name)

    night.system.execute("ALTER TABLE renamed RENAME COLUMN width TO a")
    night.is_tried_again(job)

    assert night.until_scored(job) > failed
    assert_scored_once(night.system, job)


def test_a_locked_table_is_named_by_who_locks_it_and_scored_when_it_is_free(night: Night) -> None:
    job = night.job("locked")
    night.is_due(job)
    night.until_scored(job)
    night.more_rows(job)

    with a_lock(night, "locked"):
        night.is_due(job)
        waiting = night.run(job, "planning")
        wait_for(lambda: "waits for a lock" in str(reason(night, waiting)))
        night.is_late(waiting)
        night.until_posted(job, "late", waiting)
        seen = night.look(job)

    seen.assert_reported("waits for a lock on locked, which process")
    assert seen.metric("open_runs", job=job.name, state="planning") == 1
    assert seen.metric("deadline_remaining_seconds", job=job.name) < 0
    assert seen.metric("runs_late_total", job=job.name) == 1
    seen.assert_logged("WARN", "plan.postponed", run=waiting)
    seen.assert_logged("WARN", "run.late", run=waiting, job=job.name)
    assert night.until_scored(job) == waiting
    assert_scored_once(night.system, job)


@pytest.mark.wide
def test_a_table_changed_under_its_lock_fails_the_waiting_run_with_a_next_step(night: Night) -> None:
    job = night.job("altered")
    night.is_due(job)
    night.until_scored(job)
    night.more_rows(job)
    with a_lock(night, "altered") as other:
        night.is_due(job)
        failed = night.run(job, "planning")
        wait_for(lambda: "waits for a lock" in str(reason(night, failed)))
        other.execute(text("ALTER TABLE altered RENAME COLUMN b TO width"))
        other.commit()

    night.run(job, "failed")
    night.until_posted(job, "failed", failed)
    seen = night.look(job)
    seen.assert_reported('column "b" does not exist')
    assert seen.metric("runs_total", job=job.name, state="failed") == 1
    seen.assert_logged("ERROR", "run.failed", run=failed)

    night.system.execute("ALTER TABLE altered RENAME COLUMN width TO b")
    night.follow_advice(seen.posts[-1])

    assert night.until_scored(job) > failed
    assert_scored_once(night.system, job)


def test_a_run_fails_if_its_model_file_is_gone_and_one_command_then_scores_it(night: Night) -> None:
    settings = night.system.settings
    folder = settings.artifacts / "roses"  # type: ignore[operator]  # a folder, here
    publish.add(night.system.p, folder.parents[1] / "flowers.skops", "roses", "test", AddOptions(INPUTS))
    job = night.job("fileless", model="roses")
    folder.rename(folder.parent / "elsewhere")
    night.is_due(job)

    failed = night.run(job, "failed")
    night.until_posted(job, "failed", failed)
    seen = night.look(job)
    seen.assert_reported("is not there")
    seen.assert_reported("4 of 4 batches are dead")
    assert seen.metric("runs_total", job=job.name, state="failed") == 1
    seen.assert_logged("ERROR", "model.cannot_load", model="roses/1")
    seen.assert_logged("ERROR", "run.finished", run=failed, state="failed", reason='"4 of 4 batches are dead')

    (folder.parent / "elsewhere").rename(folder)
    night.follow_advice(seen.posts[-1])

    assert night.until_scored(job) == failed
    assert_scored_once(night.system, job)


def new_password(night: Night) -> None:
    night.system.execute(f"ALTER ROLE {ROLE} PASSWORD 'another one'")
    night.system.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'")


def old_password(night: Night) -> None:
    night.system.execute(f"ALTER ROLE {ROLE} PASSWORD '{PASSWORD}'")


def cut(night: Night) -> None:
    night.wire.stall()


def mended(night: Night) -> None:
    night.wire.resume()


BLIND = {"password": (new_password, old_password), "cut_off": (cut, mended)}


@pytest.mark.parametrize("cause", BLIND)
def test_a_worker_that_lost_the_database_is_missed_and_goes_on_once_it_is_back(night: Night, cause: str) -> None:
    breaks, mends = BLIND[cause]
    job = night.job(cause)
    breaks(night)
    night.worker_is_not_seen()
    night.is_due(job)

    open_run = night.run(job, "running")
    night.is_late(open_run)
    night.until_posted(job, "late", open_run)
    if cause == "password":
        wait_for(lambda: "heartbeat.database_away" in night.system.programs.log(night.worker))
    seen = night.look(job)
    seen.assert_reported("no worker listens on queue 'cpu': start `scorebeat worker --device cpu --queue cpu`")
    assert seen.metric("workers", queue="cpu") == 0
    assert seen.metric("runs_late_total", job=job.name) == 1
    assert seen.metric("oldest_pending_seconds", job=job.name) > 0
    seen.assert_logged("WARN", "run.late", run=open_run, job=job.name)

    mends(night)

    assert night.until_scored(job) == open_run
    assert_scored_once(night.system, job)
    night.system.until_served("cpu")


@pytest.mark.wide
def test_a_night_while_the_system_is_off_is_made_up_or_reported_as_missed(night: Night) -> None:
    made_up, missed = night.job("made_up"), night.job("missed", deadline=timedelta(hours=1))
    night.off()
    for job in (made_up, missed):
        night.is_due(job)
        long_ago = "UPDATE scorebeat.jobs SET applied_at = now() - interval '1 year' WHERE name = :job"
        night.system.execute(long_ago, job=job.name)

    off = night.look(missed)
    assert off.metric("results_overdue_seconds", job=missed.name) > 0
    assert off.metric("workers", queue="control") == 0
    assert off.metric("workers", queue="cpu") == 0
    assert f"job {missed.name}: no success yet, and results were needed by" in off.jobs
    assert "no control worker, so runs are neither planned nor settled: start `scorebeat up`" in off.jobs
    assert "no control worker, so runs are neither planned nor settled: start `scorebeat up`" in off.page
    night.on()

    night.until_scored(made_up)
    assert_scored_once(night.system, made_up)
    failed = night.run(missed, "failed")
    night.until_posted(missed, "late", failed)  # one post, which reports the failure and its reason
    seen = night.look(missed)
    seen.assert_reported("missed: the due time ")
    assert "missed" in seen.jobs or "passed without a run" in seen.jobs
    assert seen.metric("ticks_missed_total", job=missed.name) == 1
    assert seen.metric("runs_total", job=missed.name, state="failed") == 1
    seen.assert_logged("ERROR", "run.failed", run=failed, job=missed.name)
    seen.assert_logged("WARN", "tick.missed", job=missed.name)

    night.follow_advice(seen.posts[-1])

    assert night.until_scored(missed) > failed
    assert_scored_once(night.system, missed)


@contextmanager
def a_lock(night: Night, table: str) -> Iterator[Connection]:
    """ACCESS EXCLUSIVE, by a session of somebody else, until the block is left."""
    with night.system.engine.connect() as connection:
        connection.execute(text(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"))
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        yield connection
        connection.rollback()


def reason(night: Night, run: int) -> str | None:
    ((found,),) = night.system.query("SELECT reason FROM scorebeat.runs WHERE id = :run", run=run)
    return None if found is None else str(found)
