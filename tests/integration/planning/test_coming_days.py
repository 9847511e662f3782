"""Jobs of a queue that cannot all end in time are named from what their runs took, and from nothing else."""

import json
from typing import Any

import pytest

from scorebeat.db.processes import workers
from scorebeat.db.reports.forecasts import coming_days
from scorebeat.db.reports.forecasts.coming_days import QueueDay
from scorebeat.ops.cli.commands.installation import checks
from scorebeat.ops.cli.commands.installation.checks import Finding
from tests.support.ledger_fixtures import Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_run

__all__ = ["ledger", "trained"]

MINUTES = 60


def nightly(ledger: Ledger, name: str, busy: float, runs: int = 3, **options: Any) -> None:
    """A job that is due at two, and runs of it that took so many seconds of two processes."""
    for _ in range(runs):
        with ledger.engine.begin() as connection:
            run_id = add_run(connection, "succeeded", name)
        ledger.sql(
            "INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts, wait_seconds, span_seconds,"
            f" busy_seconds, processes) VALUES ({run_id}, '{name}', 'succeeded', 100000, 10, 1, {busy / 2}, {busy}, 2)"
        )
        ledger.sql(f"UPDATE scorebeat.runs SET finished_at = created_at + {busy / 2 + 2} * interval '1 s'")
    ledger.apply(a_job(name=name))
    spec = json.dumps({"schedule": "0 2 * * *", "deadline": "45m", **options})
    ledger.sql("UPDATE scorebeat.jobs SET spec = spec || CAST(:spec AS jsonb) WHERE name = :name", spec=spec, name=name)


def days(ledger: Ledger) -> list[QueueDay]:
    with ledger.engine.connect() as connection:
        return coming_days.read(connection)


def findings(ledger: Ledger) -> list[Finding]:
    return [checks.coming_day(found) for found in days(ledger)]


def test_two_jobs_of_a_queue_that_cannot_both_end_in_time_are_named(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        workers.seen(connection, "w1", ["cpu"], "cpu", 2)
    nightly(ledger, "churn", 60 * MINUTES)
    nightly(ledger, "fraud", 60 * MINUTES)

    (found,) = findings(ledger)

    assert (found.subject, found.verdict) == ("queue cpu, the coming day", "warning")
    assert "4% of what 2 processes can do, by the last runs of churn, fraud" in found.text
    assert "job fraud due at" in found.text
    assert "02:00 UTC would end at 03:00 and is needed by 02:45, behind churn" in found.text
    assert "job churn due" not in found.text


@pytest.mark.parametrize(
    "options",
    [{"queue": "other"}, {"schedule": "0 3 * * *"}, {"deadline": "2h"}, {"deadline": None}],
    ids=["another queue", "another time", "a later deadline", "nothing promised"],
)
def test_jobs_that_do_not_stand_in_each_others_way_are_not_named(ledger: Ledger, options: dict[str, Any]) -> None:
    nightly(ledger, "churn", 60 * MINUTES)
    nightly(ledger, "fraud", 60 * MINUTES, **options)

    assert [found.verdict for found in findings(ledger)] == ["ok"]


def test_jobs_with_too_few_runs_are_not_judged(ledger: Ledger) -> None:
    nightly(ledger, "churn", 600 * MINUTES, runs=2)
    nightly(ledger, "fraud", 600 * MINUTES, runs=0)

    assert days(ledger) == []


def test_schedules_that_need_more_than_the_processes_can_do_are_named(ledger: Ledger) -> None:
    nightly(ledger, "often", 15, schedule="every 10 seconds", deadline=None)
    nightly(ledger, "hourly", 90 * MINUTES, schedule="0 * * * *", deadline=None)

    (found,) = findings(ledger)

    assert found.verdict == "warning"
    assert found.text.startswith("its schedules need 150% of what 2 processes can do")
