"""Counters of a job's events that no other row of the ledger counts."""

from collections.abc import Sequence

from sqlalchemy import Connection, text

CLAIMS_EXPIRED = "claims_expired"
ROWS_TAKEN_BACK = "rows_taken_back"
"""Failed rows that a requeue, or another try of a whole run, made pending again."""
ROWS_MISSED = "rows_missed"
"""Rows that a run which compared every key found, and that those before it had missed."""
ENDED = "runs_"
"""Followed by a final state: ends of runs. A run that a requeue opens again ends once more."""

TICKS = "ticks_"
TICKS_MISSED = f"{TICKS}missed"
TICKS_SKIPPED = f"{TICKS}skipped_"
"""Followed by one of SKIPPED."""
SKIPPED = PAUSED, BUSY = "paused", "busy"
"""Why a due time is skipped: somebody, or Scorebeat, paused the job, or its previous run is still open."""


def add_to_job(connection: Connection, name: str, job: str, value: int) -> None:
    """Add to the counter of a job."""
    connection.execute(
        text(
            "INSERT INTO scorebeat.counters (name, job, value) VALUES (:name, :job, :value)"
            " ON CONFLICT (name, job) DO UPDATE SET value = counters.value + EXCLUDED.value"
        ),
        {"name": name, "job": job, "value": value},
    )


def add_by_run(connection: Connection, name: str, run_ids: Sequence[int]) -> None:
    """Add one for each id in the list to the counter of its run's job; an id may be there several times."""
    connection.execute(
        text(
            "INSERT INTO scorebeat.counters (name, job, value) SELECT :name, r.job, count(*)"
            " FROM unnest(CAST(:ids AS bigint[])) AS i JOIN scorebeat.runs r ON r.id = i GROUP BY r.job ORDER BY r.job"
            " ON CONFLICT (name, job) DO UPDATE SET value = counters.value + EXCLUDED.value"
        ),
        {"name": name, "ids": list(run_ids)},
    )


def add(connection: Connection, name: str, run_id: int, value: int) -> None:
    """Add to the counter of the run's job; 0 changes nothing."""
    if value:
        connection.execute(
            text(
                "INSERT INTO scorebeat.counters (name, job, value) SELECT :name, job, :value FROM scorebeat.runs"
                " WHERE id = :run_id ON CONFLICT (name, job) DO UPDATE SET value = counters.value + EXCLUDED.value"
            ),
            {"name": name, "run_id": run_id, "value": value},
        )
