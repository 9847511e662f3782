"""The `retry-run` policy: a run is shown whole or not at all, and begun again if any of it failed.

Functions of the ledger's owner change what readers see: `db.schema.functions`.
"""

from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import counters, usage
from scorebeat.db.schema import functions

_FINAL = "state IN ('committed', 'dead', 'cancelled')"


def hide_what_comes(connection: Connection, target: PredictionSet) -> None:
    """Before a run: readers keep what they see now, and do not see yet what the run commits."""
    functions.call(connection, "hide_from_now", target.id)


def show_as_it_comes(connection: Connection, target: PredictionSet) -> None:
    """The job has another policy now: readers see each batch as soon as it is committed."""
    functions.call(connection, "show_as_it_comes", target.id)


def show(connection: Connection, run: Run) -> None:
    """The run succeeded: one number makes all of it visible, with what a cancelled run before it left.

    This includes a run of another policy that was requeued after its job became one that is shown whole: what the
    requeue adds is hidden until that run, or a later one, succeeds. If batches are shown as they come, nothing is done.
    """
    functions.call(connection, "show_run", run.id)


def undo(connection: Connection, run: Run) -> None:
    """Delete the run's predictions that no reader sees. The rows that it quarantined stay."""
    functions.call(connection, "undo_run", run.id)


def reset_scored_counts(connection: Connection, run: Run) -> None:
    """The run failed: rows that `undo` deleted do not count as scored. Those that readers saw before still do."""
    connection.execute(
        text(
            "UPDATE scorebeat.batches b SET rows_scored = 0 FROM scorebeat.prediction_sets s WHERE b.run_id = :run"
            " AND s.id = :set AND b.rows_scored > 0 AND (s.complete_at IS NULL OR b.id >= s.visible_below)"
        ),
        {"run": run.id, "set": run.prediction_set_id},
    )


def free(connection: Connection, run: Run) -> None:
    """Remove the run's rows from quarantine: the run tries them again itself."""
    connection.execute(
        text(
            "DELETE FROM scorebeat.quarantine WHERE batch_id IN (SELECT id FROM scorebeat.batches WHERE run_id = :run)"
        ),
        {"run": run.id},
    )


def move_up(connection: Connection, run: Run) -> None:
    """Give the batches of a closed run new ids: readers may see the range of the old ones by now."""
    functions.call(connection, "renumber_batches", run.id)


def begin_again(connection: Connection, run: Run, attempts: int, pause: timedelta) -> int:
    """Make all final batches pending. Returns how many. Attempt numbers go on, so that no late worker can commit."""
    connection.execute(
        text("UPDATE scorebeat.runs SET tries = tries + 1 WHERE id = :run"),
        {"run": run.id},
    )
    failed = text(f"SELECT coalesce(sum(rows_failed), 0) FROM scorebeat.batches WHERE run_id = :run AND {_FINAL}")
    rows = int(connection.execute(failed, {"run": run.id}).scalar_one())
    counters.add(connection, counters.ROWS_TAKEN_BACK, run.id, rows)
    usage.repeat(connection, run.id)
    return connection.execute(
        text(
            "UPDATE scorebeat.batches SET state = 'pending', attempts_left = :attempts, finished_at = NULL,"
            " claim_expires_at = NULL, sent_at = NULL, rows_scored = 0, rows_failed = 0,"
            " pending_at = clock_timestamp(), care = 0, probe_key = NULL, probe_expiries = 0,"
            " fetch_seconds = NULL, predict_seconds = NULL, commit_seconds = NULL, device_seconds = NULL,"
            " cpu_seconds = NULL,"
            f" next_attempt_at = clock_timestamp() + CAST(:pause AS interval) WHERE run_id = :run AND {_FINAL}"
        ),
        {"run": run.id, "attempts": attempts, "pause": pause},
    ).rowcount
