"""The `retry-run` policy: a run is shown whole or not at all, and begun again when any of it failed.

What readers see is moved by functions of the ledger's owner: see `db.schema.functions`.
"""

from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.db.ledger.runs import Run
from scorebeat.db.predictions.prediction_sets import PredictionSet
from scorebeat.db.records import counters
from scorebeat.db.schema import functions

_FINAL = "state IN ('committed', 'dead', 'cancelled')"


def hide_what_comes(connection: Connection, target: PredictionSet) -> None:
    """Before a run: what readers see now stays, what the run commits is not seen yet."""
    functions.call(connection, "hide_from_now", target.id)


def show_as_it_comes(connection: Connection, target: PredictionSet) -> None:
    """The job has another policy now: readers see each batch when it is committed."""
    functions.call(connection, "show_as_it_comes", target.id)


def show(connection: Connection, run: Run) -> None:
    """The run succeeded: one number makes all of it visible, and what a cancelled run before it left.

    Also a run of another policy, which was requeued after its job became one that is shown whole: until it succeeds,
    or a later run does, what the requeue adds is hidden. Where all is shown as it comes, nothing is done.
    """
    functions.call(connection, "show_run", run.id)


def undo(connection: Connection, run: Run) -> None:
    """Delete the predictions that the run made, as far as no reader sees them. What it quarantined stays to be read."""
    functions.call(connection, "undo_run", run.id)


def count_nothing(connection: Connection, run: Run) -> None:
    """The run failed: what `undo` deleted is no row that was scored. What readers saw before stays, and counts."""
    connection.execute(
        text(
            "UPDATE scorebeat.batches b SET rows_scored = 0 FROM scorebeat.prediction_sets s WHERE b.run_id = :run"
            " AND s.id = :set AND b.rows_scored > 0 AND (s.complete_at IS NULL OR b.id >= s.visible_below)"
        ),
        {"run": run.id, "set": run.prediction_set_id},
    )


def free(connection: Connection, run: Run) -> None:
    """Rows that the run quarantined are tried again, by itself."""
    connection.execute(
        text(
            "DELETE FROM scorebeat.quarantine WHERE batch_id IN (SELECT id FROM scorebeat.batches WHERE run_id = :run)"
        ),
        {"run": run.id},
    )


def move_up(connection: Connection, run: Run) -> None:
    """Give the batches of a closed run new ids: those that it had may be among what readers see by now."""
    functions.call(connection, "renumber_batches", run.id)


def begin_again(connection: Connection, run: Run, attempts: int, pause: timedelta) -> int:
    """All batches are pending, answered is how many; the attempts' numbers go on, so that no late worker can commit."""
    connection.execute(
        text("UPDATE scorebeat.runs SET tries = tries + 1 WHERE id = :run"),
        {"run": run.id},
    )
    failed = text(f"SELECT coalesce(sum(rows_failed), 0) FROM scorebeat.batches WHERE run_id = :run AND {_FINAL}")
    rows = int(connection.execute(failed, {"run": run.id}).scalar_one())
    counters.add(connection, counters.ROWS_TAKEN_BACK, run.id, rows)
    return connection.execute(
        text(
            "UPDATE scorebeat.batches SET state = 'pending', attempts_left = :attempts, finished_at = NULL,"
            " claim_expires_at = NULL, sent_at = NULL, rows_scored = 0, rows_failed = 0,"
            " pending_at = clock_timestamp(), care = 0, probe_key = NULL, probe_expiries = 0,"
            " fetch_seconds = NULL, predict_seconds = NULL, commit_seconds = NULL,"
            f" next_attempt_at = clock_timestamp() + CAST(:pause AS interval) WHERE run_id = :run AND {_FINAL}"
        ),
        {"run": run.id, "attempts": attempts, "pause": pause},
    ).rowcount
