"""The planning lease: who plans a run and for how long, and what is done if the planner dies."""

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Connection, text

from scorebeat.core.errors import PlanLost
from scorebeat.db.ledger import next_step, runs

MAX_PLANS = 3
"""Attempts to plan a run before it is failed: a plan that kills its process must not loop."""


def claim(connection: Connection, run_id: int, planner: str, lease: timedelta) -> int | None:
    """Take the lease of a run. Returns the attempt's number; None if another planner has it or the run is planned.

    `close_expired` handles a run whose planner died after it made batches: a second plan would number them again.
    """
    return connection.execute(
        text(
            "UPDATE scorebeat.runs SET plan_attempt = plan_attempt + 1, planned_by = :planner,"
            " plan_expires_at = clock_timestamp() + :lease WHERE id = :id AND state = 'planning'"
            " AND (planned_by IS NULL OR plan_expires_at < clock_timestamp()) AND plan_attempt < :most"
            " AND NOT EXISTS (SELECT 1 FROM scorebeat.batches b WHERE b.run_id = :id)"
            " RETURNING plan_attempt"
        ),
        {"id": run_id, "planner": planner, "lease": lease, "most": MAX_PLANS},
    ).scalar_one_or_none()


def extend(connection: Connection, run_id: int, attempt: int, lease: timedelta) -> bool:
    """This attempt still plans the run: its lease lasts `lease` from now. Locks the run for the transaction."""
    moved = connection.execute(
        text(
            "UPDATE scorebeat.runs SET plan_expires_at = clock_timestamp() + :lease"
            " WHERE id = :id AND state = 'planning' AND plan_attempt = :attempt"
        ),
        {"id": run_id, "attempt": attempt, "lease": lease},
    )
    return moved.rowcount == 1


def require(connection: Connection, run_id: int, attempt: int, lease: timedelta) -> None:
    """`extend` for a step that only the run's planner may take. Raises PlanLost."""
    if not extend(connection, run_id, attempt, lease):
        raise PlanLost(f"run {run_id}: planning attempt {attempt} lost its lease, or the run was closed")


def renew(connection: Connection, run_ids: Sequence[int], planner: str, lease: timedelta) -> int:
    """The planner's parent still runs these plans: their leases last `lease` from now. Returns how many."""
    return connection.execute(
        text(
            "WITH held AS (SELECT id FROM scorebeat.runs WHERE id = ANY (:ids) AND state = 'planning'"
            " AND planned_by = :planner AND plan_expires_at > clock_timestamp() FOR UPDATE SKIP LOCKED)"
            " UPDATE scorebeat.runs r SET plan_expires_at = clock_timestamp() + :lease FROM held"
            " WHERE r.id = held.id"
        ),
        {"ids": list(run_ids), "planner": planner, "lease": lease},
    ).rowcount


def note_empty(connection: Connection, run_id: int, attempt: int, was_empty: bool) -> None:
    """Record whether the prediction set was empty before the plan: then a first attempt needs no anti-join."""
    connection.execute(
        text(
            "UPDATE scorebeat.runs SET set_was_empty = :was_empty"
            " WHERE id = :id AND state = 'planning' AND plan_attempt = :attempt"
        ),
        {"id": run_id, "attempt": attempt, "was_empty": was_empty},
    )


def put_back(connection: Connection, run_id: int, attempt: int, reason: str, pause: timedelta) -> bool:
    """The attempt failed with a transient error: the plan is sent again after `pause`, or fails if none is left.

    `reason` is kept. A run that has batches goes on with those. False if the attempt had lost the lease.
    """
    return _release(connection, run_id, attempt, "", reason, pause)


def postpone(connection: Connection, run_id: int, attempt: int, reason: str, pause: timedelta) -> bool:
    """`put_back` for an attempt that only came at the wrong time: it does not count.

    Its number is used again: nobody has it any more, and an older attempt finds the lease taken, or batches.
    """
    return _release(connection, run_id, attempt, " plan_attempt = plan_attempt - 1,", reason, pause)


def _release(connection: Connection, run_id: int, attempt: int, counts: str, reason: str, pause: timedelta) -> bool:
    moved = connection.execute(
        text(
            f"UPDATE scorebeat.runs r SET{counts} planned_by = NULL, reason = :reason,"
            " plan_expires_at = clock_timestamp() + CASE WHEN EXISTS (SELECT 1 FROM scorebeat.batches b"
            " WHERE b.run_id = r.id) THEN interval '0' ELSE CAST(:pause AS interval) END"
            " WHERE id = :id AND state = 'planning' AND plan_attempt = :attempt"
        ),
        {"id": run_id, "attempt": attempt, "reason": reason, "pause": pause},
    )
    return moved.rowcount == 1


def finish(connection: Connection, run_id: int, attempt: int) -> bool:
    """The plan is whole: planning becomes running."""
    moved = connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'running', plan_expires_at = NULL, plan_is_whole = true,"
            " reason = NULL, planned_at = clock_timestamp()"
            " WHERE id = :id AND state = 'planning' AND plan_attempt = :attempt"
        ),
        {"id": run_id, "attempt": attempt},
    )
    return moved.rowcount == 1


_EXPIRED_WITHOUT_A_BATCH = (
    "id IN (SELECT r.id FROM scorebeat.runs r WHERE r.state = 'planning' AND r.plan_expires_at < clock_timestamp()"
    " AND NOT EXISTS (SELECT 1 FROM scorebeat.batches b WHERE b.run_id = r.id) FOR UPDATE SKIP LOCKED)"
)
"""A run that a dead planner's session still locks is left for later: it may have batches that are not committed yet."""


def close_expired(connection: Connection) -> list[int]:
    """Close plans whose planner died after it made batches: the run goes on with those, and at best ends as partial."""
    rows = connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'running', plan_expires_at = NULL, planned_at = clock_timestamp(),"
            " reason = 'planning was cut short: ' || coalesce(reason, planned_by || ' died', 'nobody planned it')"
            " || '; the rows that were not planned stay pending for the next run'"
            " WHERE id IN (SELECT r.id FROM scorebeat.runs r WHERE r.state = 'planning'"
            " AND r.plan_expires_at < clock_timestamp()"
            " AND EXISTS (SELECT 1 FROM scorebeat.batches b WHERE b.run_id = r.id) FOR UPDATE SKIP LOCKED)"
            " RETURNING id"
        )
    )
    return [row[0] for row in rows]


def fail_spent(connection: Connection) -> list[tuple[int, str]]:
    """Fail runs whose plans died, failed or were lost too often without a batch. Returns them with the reasons."""
    rows = connection.execute(
        text(
            "UPDATE scorebeat.runs SET state = 'failed', plan_expires_at = NULL, finished_at = clock_timestamp(),"
            " reason = CASE WHEN reason IS NULL THEN format('planning died %s times without making a batch',"
            " plan_attempt) ELSE format('planning failed %s times without making a batch, %s: %s', plan_attempt,"
            " CASE WHEN planned_by IS NULL THEN 'the last time by' ELSE 'the last time it died, and before that' END,"
            " reason) END"
            f" WHERE {_EXPIRED_WITHOUT_A_BATCH} AND plan_attempt >= :most RETURNING id, reason"
        ),
        {"most": MAX_PLANS},
    )
    failed = [(run_id, next_step.after(runs.get(connection, run_id), reason)) for run_id, reason in rows]
    for run_id, reason in failed:
        connection.execute(
            text("UPDATE scorebeat.runs SET reason = :reason WHERE id = :id"), {"id": run_id, "reason": reason}
        )
    return failed


def unplanned(connection: Connection, lease: timedelta) -> list[int]:
    """Runs whose plan should have begun and has no lease: their message has to be sent again.

    Marks them for `lease`, so that the next call does not return them again; the lease stays free.
    """
    rows = connection.execute(
        text(
            "UPDATE scorebeat.runs SET plan_expires_at = clock_timestamp() + :lease, planned_by = NULL"
            f" WHERE {_EXPIRED_WITHOUT_A_BATCH} RETURNING id"
        ),
        {"lease": lease},
    )
    return [row[0] for row in rows]
