"""The database's clock goes back: what was stamped before waits no longer than it would have."""

from datetime import timedelta

import pytest

from scorebeat.core.states import BatchState
from scorebeat.db.processes import clock, workers
from scorebeat.producer.control.control_round import run_once
from scorebeat.producer.control.ticks.tick import tick
from tests.support.ledger_fixtures import FILL, Ledger, ledger, trained
from tests.support.ledger_rows import a_job, add_run

__all__ = ["ledger", "trained"]

STAMPS = {
    "batches": ("claimed_at", "claim_expires_at", "sent_at", "next_attempt_at"),
    "runs": ("plan_expires_at", "retry_at"),
    "notices": ("due_at",),
    "jobs": ("last_due_at",),
    "workers": ("seen_at",),
}


def go_back(ledger: Ledger, by: str) -> None:
    """As if the clock had: all that was stamped lies so far ahead."""
    for table, columns in STAMPS.items():
        ledger.sql(f"UPDATE scorebeat.{table} SET {', '.join(f'{c} = {c} + interval {by!r}' for c in columns)}")


@pytest.mark.parametrize("by", ["1 hour", "1 year"])
def test_claims_messages_waits_and_plans_go_on_after_the_clock_went_back(ledger: Ledger, by: str) -> None:
    ledger.sql(FILL.format(first=1, last=30))
    run = ledger.planned(a_job())
    planning = ledger.enqueue(a_job(name="planned_later"))
    with ledger.engine.begin() as connection:
        workers.seen(connection, "gone", ["cpu"], "cpu", 1)
    first, second, third = ledger.batch_ids(run)
    ttl = ledger.settings.claim_ttl.total_seconds()
    ledger.sql(
        "UPDATE scorebeat.batches SET state = 'claimed', claimed_by = 'w1', claimed_at = now(), sent_at = NULL,"
        f" claim_expires_at = now() + interval '{ttl} s' WHERE id = :id",
        id=first,
    )
    ledger.sql("UPDATE scorebeat.batches SET sent_at = now() WHERE id = :id", id=second)
    ledger.sql("UPDATE scorebeat.batches SET sent_at = NULL, next_attempt_at = now() WHERE id = :id", id=third)

    go_back(ledger, by)
    run_once(ledger.producer)

    ahead = ledger.sql(
        "SELECT extract(epoch FROM greatest(claim_expires_at, sent_at, next_attempt_at) - now())::float8"
        " FROM scorebeat.batches ORDER BY id"
    )
    assert max(ahead) <= ttl
    assert ledger.batch(first)["state"] == BatchState.CLAIMED  # its worker may live, and renew it
    (plan_expires,) = ledger.sql(
        "SELECT extract(epoch FROM plan_expires_at - now())::float8 FROM scorebeat.runs WHERE id = :id", id=planning
    )
    assert plan_expires <= ttl
    assert ledger.sql("SELECT seen_at <= clock_timestamp() FROM scorebeat.workers WHERE name = 'gone'") == [True]


def test_a_job_that_was_due_in_a_future_that_did_not_come_is_due_again(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=5))
    job = ledger.apply(a_job().model_copy(update={"schedule": "every 1 second"}))
    go_back(ledger, "1 year")
    run_once(ledger.producer)
    ledger.sql("UPDATE scorebeat.jobs SET last_due_at = last_due_at - interval '5 seconds'")

    assert tick(ledger.producer, job.name) is not None


def test_a_truth_that_was_read_under_a_clock_of_next_year_is_read_again(ledger: Ledger) -> None:
    with ledger.engine.begin() as connection:
        for job, ahead in (("next_year", "1 year"), ("tonight", "20 hours")):
            add_run(connection, "succeeded", job)
            connection.exec_driver_sql(
                "INSERT INTO scorebeat.truth_readings (job, begun_at, next_at) VALUES"
                f" ('{job}', now() + interval '{ahead}', now() + interval '{ahead}')"
            )
        connection.exec_driver_sql('UPDATE scorebeat.jobs SET spec = spec || \'{"truth": "SELECT 1"}\'')
        assert clock.bring_back(connection, timedelta(minutes=1), timedelta(minutes=1)) == {"truths": 1}
        assert connection.exec_driver_sql(
            "SELECT job FROM scorebeat.truth_readings WHERE next_at <= clock_timestamp()"
        ).scalars().all() == ["next_year"]  # fmt: skip


def test_times_that_rightly_lie_ahead_are_left_alone(ledger: Ledger) -> None:
    ledger.sql(FILL.format(first=1, last=30))
    run = ledger.planned(a_job())
    _, second, _ = ledger.batch_ids(run)
    ledger.sql("UPDATE scorebeat.batches SET sent_at = NULL, next_attempt_at = now() + interval '10 min'")
    ledger.sql("UPDATE scorebeat.batches SET sent_at = now(), next_attempt_at = NULL WHERE id = :id", id=second)
    before = ledger.sql("SELECT id, next_attempt_at, sent_at FROM scorebeat.batches ORDER BY id")
    run_once(ledger.producer)

    assert ledger.sql("SELECT id, next_attempt_at, sent_at FROM scorebeat.batches ORDER BY id") == before
