"""The pages about runs read a few runs, however many a ledger has."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Connection, Engine

from scorebeat.core.states import RunState
from scorebeat.db.reports import status
from scorebeat.db.reports.pages import job_lines, run_pages
from tests.support.ledger_fixtures import shared_engine
from tests.support.ledger_rows import add_run
from tests.support.query_plans import explaining, plan_of

__all__ = ["shared_engine"]

TICKS = (
    "INSERT INTO scorebeat.runs (job, model, model_version, prediction_set_id, state, spec, created_by, due_at,"
    " finished_at, reason, plan_is_whole, noted_at) SELECT job, model, model_version, prediction_set_id, s, spec,"
    " 'beat', now() - n * interval '1 min', now(), CASE WHEN s = 'failed' THEN 'because' END, true, now()"
    " FROM scorebeat.runs, (SELECT n, CASE WHEN n % 500 = 0 THEN 'failed' ELSE 'succeeded' END AS s"
    " FROM generate_series(1, 20000) n) n WHERE id = {run}"
)
BATCHES = (
    "INSERT INTO scorebeat.batches (run_id, number, queue, state, rows_planned, attempts_left, first_key, last_key,"
    " finished_at) SELECT {run} + n, 1, 'cpu', 'committed', 10, 5, '[\"1\"]', '[\"10\"]', now()"
    " FROM generate_series(1, 15000, 3) AS n"
)


@pytest.fixture(scope="module")
def engine(shared_engine: Engine) -> Iterator[Engine]:
    """Two weeks of a job that is due each minute and rarely has something to score; some ticks failed."""
    with shared_engine.begin() as connection:
        run = add_run(connection, "succeeded")
        connection.exec_driver_sql(TICKS.format(run=run))
        connection.exec_driver_sql(BATCHES.format(run=run))
        connection.exec_driver_sql("ANALYZE")
    with explaining(shared_engine) as made:
        yield made


PAGES: dict[str, Callable[[Connection], Any]] = {
    "Runs page": lambda c: run_pages.runs(c, with_idle=False),
    "runs of a job": lambda c: run_pages.runs(c, job="flowers_job", with_idle=False),
    "all runs": run_pages.runs,
    "failed runs": lambda c: run_pages.runs(c, states=[RunState.FAILED]),
    "a run": lambda c: status.get(c, 7),
    "runs of the command": lambda c: status.newest(c, 20, with_idle=False),
    "jobs": job_lines.listing,
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_reads_no_table_of_runs_or_batches_whole(engine: Engine, page: str) -> None:
    plan = plan_of(engine, PAGES[page])

    assert "Seq Scan on runs" not in plan, plan
    assert "Seq Scan on batches" not in plan, plan
