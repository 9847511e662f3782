"""Noting how runs ended, once an end: their sums, so that no scrape adds up all history, and what is to be told."""

from datetime import timedelta

from sqlalchemy import Connection, text

TOLD_WITHIN = timedelta(days=1)
"""An end that is older is no news any more: it was counted late, or `notify` is new."""

_URL = "j.spec ->> 'notify' IS NOT NULL AND j.removed_at IS NULL"
_FIRST_END = "NOT EXISTS (SELECT 1 FROM scorebeat.run_sums WHERE run_id = {run})"


def note(connection: Connection, limit: int = 200) -> int:
    """Count ends that were not counted yet, and make the notices of jobs that want them; answers how many ends.

    A run that a requeue opened again is counted anew at its next end. Safe to call twice at once.
    """
    return connection.execute(
        text(
            "WITH ended AS (SELECT r.id, r.job, r.state, r.finished_at, r.deadline_at"
            " FROM scorebeat.runs r WHERE r.finished_at IS NOT NULL AND r.noted_at IS NULL"
            " ORDER BY r.id LIMIT :limit FOR UPDATE SKIP LOCKED),"
            " sums AS (INSERT INTO scorebeat.run_sums (run_id, job, state, rows_scored, attempts)"
            " SELECT e.id, e.job, e.state,"
            " coalesce(sum(b.rows_scored), 0) + coalesce(max(p.rows_scored), 0),"
            " coalesce(sum(b.attempt), 0) + coalesce(max(p.attempts), 0)"
            " FROM ended e LEFT JOIN scorebeat.pruned_batches p ON p.run_id = e.id"
            " LEFT JOIN scorebeat.batches b ON b.run_id = e.id GROUP BY e.id, e.job, e.state"
            " ON CONFLICT (run_id) DO UPDATE SET state = EXCLUDED.state, rows_scored = EXCLUDED.rows_scored,"
            " attempts = EXCLUDED.attempts),"
            " told AS (INSERT INTO scorebeat.notices (run_id, event, happened_at)"
            " SELECT e.id, CASE e.state WHEN 'failed' THEN 'failed' ELSE 'finished' END, e.finished_at"
            f" FROM ended e JOIN scorebeat.jobs j ON j.name = e.job WHERE {_URL}"
            " AND e.state <> 'cancelled' AND e.finished_at > now() - :told_within"
            " UNION ALL SELECT e.id, 'late', e.deadline_at"
            f" FROM ended e JOIN scorebeat.jobs j ON j.name = e.job WHERE {_URL}"
            f" AND {_FIRST_END.format(run='e.id')} AND e.finished_at > e.deadline_at"
            " AND e.finished_at > now() - :told_within"
            " ON CONFLICT DO NOTHING)"
            " UPDATE scorebeat.runs r SET noted_at = r.finished_at FROM ended e WHERE r.id = e.id"
        ),
        {"limit": limit, "told_within": TOLD_WITHIN},
    ).rowcount


def note_late(connection: Connection) -> list[int]:
    """Make the notice of each open run whose deadline has passed, once a run; answers those runs.

    A run that had ended before, and was opened again by a requeue, was judged by its first end.
    """
    rows = connection.execute(
        text(
            "INSERT INTO scorebeat.notices (run_id, event, happened_at) SELECT r.id, 'late', r.deadline_at"
            " FROM scorebeat.runs r JOIN scorebeat.jobs j ON j.name = r.job"
            " WHERE r.state IN ('planning', 'running') AND r.deadline_at < clock_timestamp()"
            f" AND {_URL} AND {_FIRST_END.format(run='r.id')} AND NOT EXISTS (SELECT 1 FROM scorebeat.notices n"
            " WHERE n.run_id = r.id AND n.event = 'late') ON CONFLICT DO NOTHING RETURNING run_id"
        )
    ).scalars()
    return list(rows)
