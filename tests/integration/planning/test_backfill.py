"""`scorebeat backfill`: one run a due time, in order, each once, and its message when something is in its way."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from scorebeat.core.settings import Settings
from scorebeat.db.connect import database_clock
from scorebeat.db.reports.pages import job_lines
from scorebeat.ops.cli import progress
from scorebeat.producer.context import Producer
from scorebeat.producer.control.ticks.tick import tick
from scorebeat.producer.requests.enqueue import Request, enqueue
from tests.support.cli_fixtures import JOB, Cli, refused, score_all, scoring

pytestmark = pytest.mark.wide(slow=3, quick=6)

QUERY = "SELECT id, a, b FROM pairs WHERE id <= extract(day FROM :due_at AT TIME ZONE 'UTC') * 10"
BY_DAY = JOB.replace("SELECT id, a, b FROM pairs", QUERY) + 'schedule = "0 2 * * *"\n'
JULY = ("backfill", "sums", "--from", "2025-07-01", "--to", "2025-07-04")


@pytest.fixture
def daily(scorebeat: Cli, job: str, settings: Settings) -> str:
    """A job that has rows of its own for each day."""
    settings.jobs.write_text(BY_DAY)
    assert scorebeat("apply").exit_code == 0
    return job


def query(engine: Engine, statement: str) -> list[Any]:
    with engine.begin() as connection:
        return [tuple(row) for row in connection.execute(text(statement))]


def days_of_runs(engine: Engine) -> list[tuple[int, str, int]]:
    """Day, state and rows of each run, in the order in which they were made."""
    return query(
        engine,
        "SELECT extract(day FROM r.due_at AT TIME ZONE 'UTC')::int, r.state, coalesce(sum(b.rows_scored), 0)::int"
        " FROM scorebeat.runs r LEFT JOIN scorebeat.batches b ON b.run_id = r.id GROUP BY r.id ORDER BY r.id",
    )


@pytest.mark.quick
def test_each_due_time_gets_one_run_in_order_and_a_second_time_none(
    scorebeat: Cli, daily: str, producer: Producer, engine: Engine
) -> None:
    dry = scorebeat(*JULY, "--dry-run")
    planned = json.loads(scorebeat(*JULY, "--dry-run", "--json").stdout)
    assert query(engine, "SELECT count(*) FROM scorebeat.runs") == [(0,)]
    with scoring(producer):
        first = scorebeat(*JULY)
        again = scorebeat("backfill", daily, "--from", "2025-06-30T03:00", "--to", "2025-07-05T02:00")

    assert "3 of 3 due times would get a run; nothing was changed" in dry.stdout
    assert [one["due_at"] for one in planned] == [f"2025-07-0{day}T02:00:00+00:00" for day in (1, 2, 3)]
    assert (first.exit_code, again.exit_code) == (0, 0)
    assert days_of_runs(engine) == [(day, "succeeded", 10) for day in (1, 2, 3, 4)]
    assert again.stdout.count("succeeded before") == 3
    assert "2025-07-03T02:00:00+00:00: run 3 succeeded before" in again.stdout
    assert query(engine, "SELECT count(DISTINCT run_key), count(deadline_at) FROM scorebeat.runs") == [(4, 0)]
    assert scorebeat("runs").stdout.count("succeeded") == 4


def test_a_due_time_that_its_tick_scored_is_left_alone(
    scorebeat: Cli, daily: str, producer: Producer, engine: Engine
) -> None:
    query(engine, "UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days' RETURNING 1")
    by_tick = tick(producer, daily)
    assert by_tick is not None
    score_all(producer, by_tick)
    ((due_at,),) = query(engine, "SELECT due_at FROM scorebeat.runs")

    done = scorebeat("backfill", daily, "--from", due_at.isoformat(), "--to", (due_at + timedelta(hours=1)).isoformat())

    assert done.exit_code == 0
    assert f"run {by_tick} succeeded before" in done.stdout
    assert len(days_of_runs(engine)) == 1


@pytest.mark.usefixtures("job")
def test_a_run_that_left_rows_out_ends_it_and_the_same_command_goes_on(
    scorebeat: Cli, producer: Producer, settings: Settings, engine: Engine
) -> None:
    fails = "SELECT id, CASE WHEN :run_id = 1 THEN 1 / 0 ELSE a END AS a,"
    settings.jobs.write_text(BY_DAY.replace("SELECT id, a,", fails))
    assert scorebeat("apply").exit_code == 0
    with scoring(producer):
        failed = scorebeat(*JULY)
        healed = scorebeat(*JULY)

    assert (failed.exit_code, healed.exit_code) == (1, 0)
    assert "left rows out, so no later due time was begun: 2 are left" in failed.stderr
    assert "the same command begins with 2025-07-01T02:00:00+00:00 again" in failed.stderr
    assert [run[:2] for run in days_of_runs(engine)][1:] == [(day, "succeeded") for day in (1, 2, 3)]
    assert query(engine, "SELECT count(*) FROM predictions.sums") == [(30,)]


def test_a_run_that_is_open_is_waited_for_and_one_for_the_due_time_is_taken(
    scorebeat: Cli, daily: str, producer: Producer, engine: Engine
) -> None:
    other = enqueue(producer, Request(daily, "ann")).run_id
    with scoring(producer):
        waited = scorebeat(*JULY[:-1], "2025-07-02")
    own = enqueue(producer, Request(daily, "ann", due_at=datetime(2025, 7, 2, 2, tzinfo=UTC))).run_id
    with scoring(producer):
        taken = scorebeat(*JULY[:3], "2025-07-02", "--to", "2025-07-03")

    assert f"2025-07-01T02:00:00+00:00: waits for run {other} to end" in waited.stdout
    assert waited.exit_code == taken.exit_code == 0
    assert f"2025-07-02T02:00:00+00:00: run {own}" in taken.stdout
    assert len(days_of_runs(engine)) == 3


REFUSED = {
    "no schedule": (BY_DAY.rpartition("schedule")[0], (), "has no schedule"),
    "a query without :due_at": (
        JOB + 'schedule = "0 2 * * *"\n',
        (),
        "does not use :due_at, so the run of each due time would score the same rows",
    ),
    "no due time": (BY_DAY, ("--from", "2025-07-01T03:00", "--to", "2025-07-01T04:00"), "had no due time from"),
    "a span that ends before it begins": (BY_DAY, ("--to", "2025-06-01"), "is not before --to 2025-06-01"),
    "no time": (BY_DAY, ("--from", "yesterday"), "'yesterday' is no time; expected ISO 8601"),
    "too many": (BY_DAY.replace("0 2 * * *", "* * * * *"), ("--to", "2025-07-20"), "more than 10,000 due times"),
}


@pytest.mark.usefixtures("job")
@pytest.mark.parametrize("what", REFUSED)
def test_a_period_that_cannot_be_filled_is_refused_with_the_next_step(
    scorebeat: Cli, settings: Settings, engine: Engine, what: str
) -> None:
    toml, more, words = REFUSED[what]
    settings.jobs.write_text(toml)
    assert scorebeat("apply").exit_code == 0

    refused(scorebeat(*JULY, *more), words)
    assert days_of_runs(engine) == []


@pytest.mark.usefixtures("daily")
def test_interrupted_it_reports_which_runs_are_open_and_how_to_go_on(
    scorebeat: Cli, monkeypatch: pytest.MonkeyPatch, engine: Engine
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("scorebeat.ops.cli.progress.time.sleep", interrupt)

    stopped = scorebeat(*JULY)

    assert stopped.exit_code == 130
    assert "run 1 goes on; `scorebeat watch 1` shows it, `scorebeat cancel 1` stops it" in stopped.stderr
    assert "3 due times are left, from 2025-07-01T02:00:00+00:00 on; the same command goes on there" in stopped.stderr
    assert days_of_runs(engine) == [(1, "planning", 0)]


def test_a_skipped_due_time_is_reported_with_the_command_that_fills_it(
    scorebeat: Cli, daily: str, producer: Producer, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    follow = progress.follow

    def with_a_tick(p: Producer, run_id: int) -> Any:
        query(engine, "UPDATE scorebeat.jobs SET last_due_at = now() - interval '2 days' RETURNING 1")
        assert tick(p, daily) is None
        return follow(p, run_id)

    monkeypatch.setattr(progress, "follow", with_a_tick)
    with scoring(producer):
        done = scorebeat(*JULY[:-1], "2025-07-02")

    ((due_at,),) = query(engine, "SELECT details ->> 'due_at' FROM scorebeat.actions WHERE action = 'tick.skipped'")
    assert f"the due time {due_at} was skipped" in done.stderr
    assert f"`scorebeat backfill sums --from {due_at} --to " in done.stderr
    (line,) = (one for one in listing(engine) if one.name == daily)
    assert f"`scorebeat backfill sums --from {due_at} --to " in str(line.last_skip_reason)


def listing(engine: Engine) -> list[job_lines.JobLine]:
    with engine.connect() as connection:
        return job_lines.listing(connection)


def test_filling_old_due_times_does_not_hide_that_tonights_results_are_overdue(
    scorebeat: Cli, daily: str, producer: Producer, engine: Engine
) -> None:
    query(engine, "UPDATE scorebeat.jobs SET applied_at = now() - interval '3 days' RETURNING 1")
    assert listing(engine)[0].is_overdue
    with scoring(producer):
        assert scorebeat(*JULY).exit_code == 0

    assert listing(engine)[0].is_overdue
    assert listing(engine)[0].last_success_at is not None
    with engine.connect() as connection:
        now = database_clock.now(connection)
    with scoring(producer):
        assert scorebeat("backfill", daily, "--from", (now - timedelta(days=1)).isoformat()).exit_code == 0
    assert not listing(engine)[0].is_overdue
