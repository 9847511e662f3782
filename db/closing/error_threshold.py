"""The error threshold: if more rows are quarantined, something other than rows is wrong, and the run fails."""

from sqlalchemy import Connection, text

from scorebeat.core.states import RunState
from scorebeat.db.ledger import batches, runs
from scorebeat.db.ledger.runs import Run

LEAST = 100
"""Rows that may always fail, however small the run."""


def stop(connection: Connection, run: Run) -> str | None:
    """Fail an open run that is over its threshold, and cancel its open batches. Returns the reason; None if it goes on.

    A run that is shown whole has no threshold: one bad row fails it when it is settled. While a run is still planned,
    its number of rows is unknown, so only a share of 0 is checked.
    """
    share = run.job.error_threshold
    if share < 0 or run.job.on_failure == "retry-run":
        return None
    state, failed, planned = connection.execute(
        text(
            "SELECT r.state, coalesce(sum(b.rows_failed), 0)::bigint, coalesce(sum(b.rows_planned), 0)::bigint"
            " FROM scorebeat.runs r LEFT JOIN scorebeat.batches b ON b.run_id = r.id WHERE r.id = :id GROUP BY r.state"
        ),
        {"id": run.id},
    ).one()
    allowed = max(LEAST, int(share * planned))
    if failed <= allowed or (state == RunState.PLANNING and share > 0):
        return None
    reason = (
        f"{failed} of {planned} rows could not be scored, more than error_threshold allows ({allowed}); "
        f"`scorebeat failures {run.id}` shows why, `scorebeat requeue {run.id}` tries again"
    )
    if not runs.fail(connection, run.id, reason):
        return None
    batches.cancel(connection, run.id)
    return reason
