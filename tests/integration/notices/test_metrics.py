"""Metrics: the numbers of the text are the ledger's."""

import time

from sqlalchemy import Engine, text

from scorebeat.db.closing import run_totals
from scorebeat.db.ledger import batches, runs
from scorebeat.db.ledger.failures import requeued
from scorebeat.db.processes import workers
from scorebeat.db.reports import metrics as metrics_db
from scorebeat.producer import metrics
from scorebeat.producer.context import Producer
from scorebeat.producer.control.plan import plan
from scorebeat.producer.control.upkeep.rescue import rescue
from tests.support.cli_fixtures import ROWS, Cli, score_all
from tests.support.ledger_rows import add_batch, add_run
from tests.support.scrape import of, samples, types


def test_the_numbers_of_a_run_that_was_scored_are_the_ledgers(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    scorebeat("enqueue", job, "--limit", "60")
    score_all(producer, 1)
    live = samples(engine)
    with engine.begin() as connection:
        assert run_totals.note(connection).ends == 1
        assert run_totals.note(connection).ends == 0
    noted = samples(engine)

    for found in (live, noted):
        assert of(found, "rows_scored_total", job=job) == 60
        assert of(found, "attempts_total", job=job) == 2
        assert of(found, "last_run_succeeded", job=job) == 1
        assert of(found, "last_run_rows_scored", job=job) == 60
        assert abs(of(found, "last_success_timestamp_seconds", job=job) - time.time()) < 60
        assert of(found, "model_info", job=job, model="adder", version="1", format="skops") == 1
    assert of(noted, "runs_total", job=job, state="succeeded") == 1


def test_an_open_run_shows_what_is_left_and_when_it_is_due(
    scorebeat: Cli, job: str, producer: Producer, engine: Engine
) -> None:
    scorebeat("enqueue", job)
    plan(producer, 1)
    with engine.begin() as connection:
        connection.execute(text("UPDATE scorebeat.runs SET deadline_at = now() - interval '1 minute'"))
        workers.seen(connection, "all", ["control", "plan"], "cpu", 1)

    found = samples(engine)

    assert of(found, "rows_pending", job=job) == ROWS
    assert of(found, "batches", job=job, queue="cpu", state="pending") == 3
    assert of(found, "batches", job=job, queue="cpu", state="dead") == 0
    assert of(found, "open_runs", job=job, state="running") == 1
    assert of(found, "oldest_pending_seconds", job=job) > 0
    assert -70 < of(found, "deadline_remaining_seconds", job=job) < -59
    assert of(found, "workers", queue="control") == 1
    assert of(found, "workers", queue="cpu") == 0
    assert of(found, "job_paused", job=job) == 0


def test_an_expired_claim_is_counted(producer: Producer, engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection)
        for number in (1, 2):
            add_batch(connection, run_id, "claimed", number=number, claim_expires_at="-infinity")

    rescue(producer)

    assert of(samples(engine), "claims_expired_total", job="flowers_job") == 2


def test_a_requeued_run_is_counted_once_and_its_open_batches_meanwhile(engine: Engine) -> None:
    with engine.begin() as connection:
        run_id = add_run(connection, "partial")
        done = add_batch(connection, run_id, "committed", rows_scored=10, attempt=1)
        add_batch(connection, run_id, "dead", number=2, attempt=5)
        run_totals.note(connection)
    seen = [of(samples(engine), "rows_scored_total", job="flowers_job")]
    with engine.begin() as connection:
        runs.reopen(connection, run_id)
        requeued.requeue_dead(connection, run_id, 5)
        connection.execute(text("UPDATE scorebeat.batches SET rows_scored = 4 WHERE id <> :id"), {"id": done})
    seen.append(of(samples(engine), "rows_scored_total", job="flowers_job"))
    with engine.begin() as connection:
        runs.cancel(connection, run_id, "test")
        batches.cancel(connection, run_id)
    seen.append(of(samples(engine), "rows_scored_total", job="flowers_job"))
    with engine.begin() as connection:
        run_totals.note(connection)
    found = samples(engine)

    assert [*seen, of(found, "rows_scored_total", job="flowers_job")] == [10, 14, 14, 14]
    assert of(found, "runs_total", job="flowers_job", state="cancelled") == 1
    assert of(found, "runs_total", job="flowers_job", state="partial") == 1


def test_each_end_of_a_run_is_counted_and_no_count_falls_when_it_is_requeued(engine: Engine) -> None:
    seen = []
    with engine.begin() as connection:
        run_id = add_run(connection, "partial")
        for state in ("partial", "partial", "succeeded"):
            runs.reopen(connection, run_id)
            connection.execute(text("UPDATE scorebeat.runs SET state = :s, finished_at = now()"), {"s": state})
            run_totals.note(connection)
            run_totals.note(connection)
            seen.append(metrics_db.read(connection).runs)

    assert [one["flowers_job", "partial"] for one in seen] == [1, 2, 2]
    assert seen[-1]["flowers_job", "succeeded"] == 1


def test_the_command_prints_what_is_served(scorebeat: Cli, job: str, engine: Engine) -> None:
    printed = scorebeat("metrics")

    assert printed.exit_code == 0
    names = {line.split()[2] for line in printed.stdout.splitlines() if line.startswith("# TYPE")}
    assert names == {f"# TYPE {n}".split()[2] for n in types(metrics.exposition(engine).decode())}
    assert f'scorebeat_rows_pending{{job="{job}"}} 0.0' in printed.stdout
